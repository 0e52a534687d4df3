"""Asynchronous functions: how they are called, and how they end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from django_jobbatch import JobTimeout
from django_jobbatch.functions import coroutines, invocation
from django_jobbatch.runner.time_limit import time_limit
from tests.tuning import Tuning

MAIN = threading.main_thread()
#: Seconds that no test waits.
FOR_EVER = 1000
#: Seconds after which a signal that had no effect is sent again.
RESEND_SECONDS = 5


def expire() -> None:
    """Let the time limit of the main thread expire now."""
    signal.pthread_kill(MAIN.ident or 0, signal.SIGALRM)


async def wait_for_ever() -> None:
    await interrupted_by(signal.SIGALRM)


async def interrupted_by(signum: int) -> None:
    """Send a signal to the main thread, and wait for the cancellation.

    Python calls its handler when the main thread has left the system call that it waits in. A signal
    that arrives just before that call does not end it, so it is sent again.
    """
    while True:
        signal.pthread_kill(MAIN.ident or 0, signum)
        await asyncio.sleep(RESEND_SECONDS)


@contextmanager
def other_signal(error: BaseException) -> Iterator[None]:
    """Let SIGUSR1 raise this in the main thread, as RQ does at a shutdown."""

    def raise_it(*_args: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_coroutine_has_ended_when_its_timeout_is_raised() -> None:
    events: list[str] = []

    async def job() -> None:
        try:
            await wait_for_ever()
        finally:
            await asyncio.sleep(0)
            events.append("ended")

    with pytest.raises(JobTimeout, match="timeout of 60 seconds"), time_limit(60):
        invocation.invoke(job, (), {})
    events.append("raised")

    assert events == ["ended", "raised"]


def test_a_coroutine_that_a_decorator_hides_has_ended_too() -> None:
    events: list[str] = []

    async def job() -> None:
        try:
            await wait_for_ever()
        finally:
            events.append("ended")

    def hidden() -> Awaitable[None]:
        return job()

    with pytest.raises(JobTimeout), time_limit(60):
        invocation.invoke(hidden, (), {})

    assert events == ["ended"]


def test_the_tasks_of_a_coroutine_have_ended_too() -> None:
    events: list[str] = []

    async def beside() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            events.append("ended")

    async def job() -> None:
        task = asyncio.create_task(beside())
        await asyncio.sleep(0)
        await wait_for_ever()
        await task

    with pytest.raises(JobTimeout), time_limit(60):
        invocation.invoke(job, (), {})

    assert events == ["ended"]


def test_a_cancelled_coroutine_may_still_call_functions_of_the_main_thread() -> None:
    threads: list[threading.Thread] = []

    async def job() -> None:
        try:
            await wait_for_ever()
        finally:
            threads.append(await sync_to_async(threading.current_thread)())

    with pytest.raises(JobTimeout), time_limit(60):
        invocation.invoke(job, (), {})

    assert threads == [MAIN]


def test_a_function_that_a_coroutine_waits_for_is_interrupted_itself() -> None:
    raised: list[str] = []

    def block() -> None:
        expire()
        threading.Event().wait(FOR_EVER)

    async def job() -> None:
        try:
            await sync_to_async(block)()
        except JobTimeout:
            raised.append("in the function")
            raise

    with pytest.raises(JobTimeout), time_limit(60):
        invocation.invoke(job, (), {})

    assert raised == ["in the function"]


def test_a_coroutine_in_a_function_of_a_coroutine_is_cancelled() -> None:
    events: list[str] = []

    async def inner() -> None:
        try:
            await wait_for_ever()
        finally:
            events.append("inner ended")

    async def job() -> None:
        try:
            await sync_to_async(async_to_sync(inner))()
        finally:
            events.append("ended")

    with pytest.raises(JobTimeout), time_limit(60):
        invocation.invoke(job, (), {})

    # If the signal arrives before the thread waits for `inner`, that ends last.
    assert sorted(events) == ["ended", "inner ended"]


def test_a_coroutine_that_ends_in_spite_of_its_cancellation_has_succeeded() -> None:
    """Like a function that catches JobTimeout and returns."""

    async def job() -> str:
        with suppress(asyncio.CancelledError):
            await wait_for_ever()
        return "done"

    with time_limit(60):
        assert invocation.invoke(job, (), {}) == "done"


def test_a_coroutine_that_cancels_itself_has_not_run_into_a_timeout() -> None:
    async def job() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError), time_limit(60):
        invocation.invoke(job, (), {})


def test_the_traceback_of_a_timeout_shows_where_the_coroutine_waited() -> None:
    with pytest.raises(JobTimeout) as caught, time_limit(60):
        invocation.invoke(wait_for_ever, (), {})

    assert "wait_for_ever" in [each.name for each in caught.traceback]


def test_off_the_main_thread_a_coroutine_has_ended_when_its_timeout_is_raised() -> None:
    events: list[str] = []

    async def job() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            events.append("ended")

    def run() -> None:
        with pytest.raises(JobTimeout), time_limit(1):
            invocation.invoke(job, (), {})
        events.append("raised")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert events == ["ended", "raised"]


def test_a_coroutine_has_ended_when_a_shutdown_is_raised() -> None:
    events: list[str] = []
    shutdown = SystemExit()

    async def job() -> None:
        try:
            await interrupted_by(signal.SIGUSR1)
        finally:
            events.append("ended")

    with other_signal(shutdown), pytest.raises(SystemExit) as caught:
        invocation.invoke(job, (), {})
    events.append("raised")

    assert caught.value is shutdown
    assert events == ["ended", "raised"]


def test_a_shutdown_does_not_wait_for_a_coroutine_that_ignores_its_cancellation(
    tuning: Tuning, caplog: pytest.LogCaptureFixture
) -> None:
    tuning(COROUTINE_CANCEL_SECONDS=0.1)
    gate = threading.Event()

    async def job() -> None:
        with suppress(asyncio.CancelledError):
            await interrupted_by(signal.SIGUSR1)
        while not gate.is_set():
            await asyncio.sleep(0.01)

    with other_signal(SystemExit()), pytest.raises(SystemExit):
        invocation.invoke(job, (), {})
    gate.set()

    assert "A coroutine still runs 0.1 seconds after its cancellation" in caplog.text


def test_a_coroutine_that_is_cancelled_before_its_loop_runs_is_never_called() -> None:
    calls: list[str] = []

    async def job() -> None:
        calls.append("called")

    call = coroutines.CoroutineCall(job)
    assert call.cancel(JobTimeout("too late")) is False

    with pytest.raises(JobTimeout, match="too late"):
        call.run()
    assert calls == []


def test_an_error_before_the_loop_is_raised_at_once() -> None:
    async def main() -> None:
        invocation.invoke(wait_for_ever, (), {})

    with pytest.raises(RuntimeError, match="AsyncToSync"):
        asyncio.run(main())


def test_a_thread_without_a_coroutine_is_interrupted_itself() -> None:
    assert coroutines.cancel_in(threading.get_ident(), None, JobTimeout()) is False
