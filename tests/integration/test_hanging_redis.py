"""Servers that hang: what a call may wait for Redis, and what is done without it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any

import pytest
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from django_jobbatch import bus, transport
from django_jobbatch.exceptions import TransportError
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile
from django_jobbatch.runner import work
from tests.factories import JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import ALIAS
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db(transaction=True)

#: `REDIS_TIMEOUT` in these tests. Without a bound, a client without timeouts waits for ever.
BUDGET = 0.3


class Listener:
    """A server on a port of its own, which accepts connections and does `answer` with each."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with ExitStack() as connections:
            while True:
                try:
                    connection, _ = self._server.accept()
                except OSError:
                    return
                connections.enter_context(connection)
                self.connections += 1
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def silent(connection: socket.socket) -> None:
    """Never answer."""


def byte_by_byte(connection: socket.socket) -> None:
    """Answer with a text that never ends, so that no single read takes long."""
    connection.sendall(b"+")
    try:
        while True:
            connection.sendall(b"O")
            time.sleep(0.01)
    except OSError:
        return


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    listener = Listener(answer)
    try:
        yield listener.port
    finally:
        listener.close()


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose packets are dropped, since its backlog is full."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


SERVERS: dict[str, Callable[[], Any]] = {
    "accepts and is silent": lambda: listening(silent),
    "answers byte by byte": lambda: listening(byte_by_byte),
    "drops packets": full_backlog,
}


def hang(settings: Any, port: int) -> None:
    """Put all queues on this port, for clients without timeouts that try again."""
    clients = {
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(ConstantBackoff(60), 10),
    }
    queue = {"HOST": "127.0.0.1", "PORT": port, "REDIS_CLIENT_KWARGS": clients}
    settings.RQ_QUEUES = dict.fromkeys(("default", "slow", "other"), queue)
    settings.JOBBATCH = {"REDIS_TIMEOUT": BUDGET}


@pytest.fixture(params=SERVERS)
def _hanging(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    with SERVERS[request.param]() as port:
        hang(settings, port)
        yield


@pytest.fixture
def silent_server(settings: Any) -> Iterator[Listener]:
    server = Listener(silent)
    hang(settings, server.port)
    yield server
    server.close()


def on_three_queues() -> bus.BatchBuilder:
    return bus.batch(ADD.options(queue=name) for name in ("default", "slow", "other"))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level and the text of each line of this package, without the reason."""
    return [
        (record.levelname, record.getMessage().partition(":")[0])
        for record in caplog.records
        if record.name.startswith("django_jobbatch")
    ]


def unsent(batch: JobBatch) -> tuple[str, str]:
    return "ERROR", f"Batch {batch.pk} is stored, but tickets were not sent or deleted"


@pytest.mark.usefixtures("_hanging")
def test_a_redis_that_hangs_holds_no_call_and_what_it_did_is_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = on_three_queues().dispatch()
    dispatched = lines(caplog)
    caplog.clear()

    cancelled = batch.cancel()

    assert cancelled
    assert (batch.outcome, batch.cancelled_jobs) == ("cancelled", 3)
    assert dispatched == lines(caplog) == [unsent(batch)]


def test_one_operation_waits_once_for_all_its_queues(silent_server: Listener) -> None:
    on_three_queues().dispatch()

    assert silent_server.connections == 1


def test_a_failure_to_connect_is_asked_for_once_in_an_operation(settings: Any) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        hang(settings, server.getsockname()[1])

    with transport.operation():
        errors = []
        for queue in ("default", "slow"):
            with pytest.raises(TransportError) as raised:
                transport.executing(queue)
            errors.append(str(raised.value))

    assert errors[0] == errors[1]


def test_an_operation_after_one_that_has_waited_waits_briefly(
    silent_server: Listener, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_three_queues().dispatch()
    waits: list[float | None] = []
    monkeypatch.setattr(socket.socket, "settimeout", recording(waits))
    on_three_queues().dispatch()

    assert 0 < max(filter(None, waits)) <= 0.1 < BUDGET


def test_a_pass_over_many_batches_waits_once_and_logs_it_once(
    silent_server: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [JobBatchFactory.create(jobs=2, running=True) for _ in range(3)]

    repairs = list(reconcile(ALIAS))

    assert batches
    assert repairs == []
    assert silent_server.connections == 1
    assert lines(caplog) == [("ERROR", "Redis does not answer, so queue default is not inspected")]


def test_a_redis_that_is_stopped_and_continues_gets_the_tickets_by_reconcile(
    our_redis: RedisServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JOBBATCH = {"REDIS_TIMEOUT": BUDGET}
    pid = our_redis.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        batch = on_three_queues().dispatch()
        while_stopped = lines(caplog)
    finally:
        os.kill(pid, signal.SIGCONT)

    repairs = list(reconcile(ALIAS))

    assert while_stopped == [unsent(batch)]
    # The request that it had received before it was stopped, for the first queue, may count as well.
    queues = ("default", "other", "slow")
    sent = [Repair(RepairKind.TICKET, batch.pk, queue, 1) for queue in queues]
    assert repairs in (sent, sent[1:])
    assert [transport.waiting_tickets(batch.pk, each).queued >= 1 for each in queues] == [True] * 3


@contextmanager
def over_maxmemory(client: Any) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def read_only(client: Any) -> Iterator[None]:
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize("fault", [over_maxmemory, read_only])
def test_a_redis_that_takes_no_writes_is_logged_and_gets_the_tickets_later(
    fault: Callable[[Any], AbstractContextManager[None]],
    our_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    chained, cancelled = (
        bus.chain(ADD, ADD.options(queue="other")).dispatch(),
        bus.batch([ADD, ADD]).dispatch(),
    )
    caplog.clear()
    with fault(our_redis.client):
        new = on_three_queues().dispatch()
        cancelled.cancel()
        work(str(chained.pk), "default", ALIAS)
        while_full = lines(caplog)
        repairs_while_full = list(reconcile(ALIAS))
    repairs = {(each.kind, each.batch_id, each.queue) for each in reconcile(ALIAS)}

    assert while_full[0] == unsent(new)
    assert while_full[-1] == unsent(chained)
    assert set(while_full) <= {unsent(new), unsent(chained), unsent(cancelled)}
    assert cancelled.outcome == "cancelled"
    assert {each.kind for each in repairs_while_full} == {RepairKind.TICKET}
    assert repairs == {
        (RepairKind.TICKET, batch.pk, queue)
        for batch, queue in [(chained, "other"), *((new, each) for each in NAMES)]
    }


NAMES = ("default", "slow", "other")


def recording(waits: list[float | None]) -> Any:
    original = socket.socket.settimeout

    def settimeout(self: socket.socket, seconds: float | None) -> None:
        waits.append(seconds)
        original(self, seconds)

    return settimeout
