"""The thread of a session in which the heartbeats of its batches tick."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from unittest import mock

import pytest
from django.db import connections

from django_jobbatch.runner.heartbeat import Heartbeat
from django_jobbatch.runner.heartbeats import Heartbeats, ticking
from tests.servers import wait_until
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db(transaction=True)

#: The thread dies by an error, which pytest warns of.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def heartbeat(tick: Callable[[], object], *, has_expired_call: bool = False) -> Heartbeat:
    """A heartbeat whose tick is this function."""
    made = mock.Mock(spec=Heartbeat, has_expired_call=has_expired_call)
    made.tick_safely.side_effect = tick
    return made


def test_heartbeats_tick_one_after_another_in_one_thread(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=0.001)
    ticks: list[tuple[str, int, bool]] = []

    def tick(name: str) -> None:
        connection = connections["default"]
        ticks.append((name, threading.get_ident(), connection.connection is None))
        connection.ensure_connection()

    with ticking(Heartbeats()) as heartbeats:
        for name in "abc":
            before = len(ticks)
            with heartbeats.beating(heartbeat(lambda name=name: tick(name))):  # type: ignore[misc]
                wait_until(lambda before=before: len(ticks) >= before + 2)  # type: ignore[misc]

    names = [name for name, _, _ in ticks]
    assert names == sorted(names)
    (thread,) = {thread for _, thread, _ in ticks}
    assert thread != threading.get_ident()
    # Each batch starts without the connections of the batch before.
    assert [name for name, _, is_closed in ticks if is_closed] == ["a", "b", "c"]


def test_the_end_of_a_batch_waits_for_the_tick_that_runs(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=0.001)
    has_started, may_return = threading.Event(), threading.Event()
    ended: list[bool] = []

    def tick() -> None:
        has_started.set()
        assert may_return.wait(30)
        ended.append(True)

    with ticking(Heartbeats()) as heartbeats:

        def end_late() -> None:
            wait_until(lambda: heartbeats.current is None)
            may_return.set()

        with heartbeats.beating(heartbeat(tick)):
            assert has_started.wait(30)
            other = threading.Thread(target=end_late)
            other.start()
        assert ended == [True]
        other.join()


def test_a_batch_ends_after_a_last_tick_if_a_call_ignores_its_timeout(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=1e6)
    threads: list[str] = []

    def tick() -> None:
        threads.append(threading.current_thread().name)

    with ticking(Heartbeats()) as heartbeats:
        for has_expired_call in (False, True):
            with heartbeats.beating(heartbeat(tick, has_expired_call=has_expired_call)):
                pass

    assert threads == ["jobbatch-heartbeat"]


def test_a_connection_that_cannot_be_closed_ends_no_heartbeat(
    tuning: Tuning, caplog: pytest.LogCaptureFixture
) -> None:
    tuning(HEARTBEAT_SECONDS=0.001)
    ticked = threading.Event()

    with (
        mock.patch.object(type(connections), "close_all", side_effect=OSError("gone")),
        ticking(Heartbeats()) as heartbeats,
        heartbeats.beating(heartbeat(ticked.set)),
    ):
        assert ticked.wait(30)

    assert {each.message for each in caplog.records} == {
        "A connection of the heartbeat could not be closed"
    }


def test_a_process_that_a_job_has_forked_during_a_tick_waits_for_none(tuning: Tuning) -> None:
    """It has the lock of the tick, and no thread that releases it."""
    tuning(HEARTBEAT_SECONDS=0.001)
    has_started, may_return = threading.Event(), threading.Event()

    def tick() -> None:
        has_started.set()
        assert may_return.wait(30)

    with ticking(Heartbeats()) as heartbeats, heartbeats.beating(heartbeat(tick)):
        assert has_started.wait(30)
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)  # or it would wait for ever
            with heartbeats.beating(heartbeat(tick, has_expired_call=True)):
                pass
            os._exit(os.EX_OK)
        status = os.waitpid(pid, 0)[1]
        may_return.set()

    assert os.waitstatus_to_exitcode(status) == os.EX_OK


def test_the_heartbeats_of_a_session_tick_in_each_of_its_runs(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=1e6)
    threads: list[threading.Thread] = []
    heartbeats = Heartbeats()

    for _ in range(3):
        beating = heartbeat(
            lambda: threads.append(threading.current_thread()), has_expired_call=True
        )
        with ticking(heartbeats), heartbeats.beating(beating):
            pass

    assert len({*threads}) == len(threads) == 3


class DyingTick:
    """A tick that ends its thread."""

    def __init__(self) -> None:
        self.has_started = threading.Event()

    def __call__(self) -> None:
        self.has_started.set()
        sys.exit()


@dies
def test_no_batch_waits_for_a_tick_of_a_thread_that_has_ended(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=0.001)
    dying, ticked = DyingTick(), threading.Event()

    with ticking(Heartbeats()) as heartbeats:
        with heartbeats.beating(heartbeat(dying)):
            assert dying.has_started.wait(30)
        with heartbeats.beating(heartbeat(ticked.set, has_expired_call=True)):
            pass  # or its end waits for ever

    assert not ticked.is_set()


@dies
def test_an_end_that_waits_for_a_tick_is_woken_by_an_error_of_it(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=1e6)
    dying = DyingTick()

    with (
        ticking(Heartbeats()) as heartbeats,
        heartbeats.beating(heartbeat(dying, has_expired_call=True)),
    ):
        pass

    assert dying.has_started.is_set()
