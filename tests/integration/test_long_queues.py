"""Queues with many jobs of others: what reconcile and a ticket ask Redis there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_rq
import pytest

from django_jobbatch import bus, dispatch, transport
from django_jobbatch.dispatch.tickets import new_ticket
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile
from tests.jobs import ADD
from tests.ledger.helpers import ALIAS, read
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("idle_workers")]

LIST = "rq:queue:default"


def commands(server: RedisServer, call: Callable[[], object]) -> dict[str, int]:
    """How often the call has Redis run each command, pings and connections left out."""
    server.client.config_resetstat()
    call()
    stats: dict[str, Any] = server.client.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    ours = ("lpos", "lrange", "llen", "hget", "smembers")
    return {name: calls for name, calls in counted.items() if name in ours}


def put_in_front(server: RedisServer, count: int) -> None:
    """Put jobs of others in front of the queue."""
    server.client.lpush(LIST, *(f"other-{number}" for number in range(count)))


def lose(server: RedisServer, batch: JobBatch) -> None:
    """Lose the tickets of a batch, as a worker does that dies between the pop and the start."""
    for ticket in [
        each for each in server.client.lrange(LIST, 0, -1) if batch.pk.hex.encode() in each
    ]:
        server.client.lrem(LIST, 1, ticket)


@pytest.fixture
def _short_pages(tuning: Tuning) -> None:
    tuning(QUEUE_PAGE=4, QUEUE_OVERLAP=1, MAX_SEARCHED=3)


def test_a_pass_asks_for_no_single_ticket(our_redis: RedisServer) -> None:
    batches = [bus.batch([ADD]).dispatch() for _ in range(20)]
    put_in_front(our_redis, 3000)

    asked = commands(our_redis, lambda: list(reconcile(ALIAS)))

    assert asked == {"smembers": len(batches), "lrange": 4, "llen": 1}


def test_chunks_of_a_pass_share_one_look_at_the_queue(
    our_redis: RedisServer, tuning: Tuning
) -> None:
    tuning(RECONCILE_CHUNK=2)
    for _ in range(6):
        bus.batch([ADD]).dispatch()
    put_in_front(our_redis, 3000)

    asked = commands(our_redis, lambda: list(reconcile(ALIAS)))

    # The whole list once, and for each further chunk the last page.
    assert asked == {"smembers": 6, "lrange": 4 + 2, "llen": 3}


def test_a_ticket_asks_for_the_place_of_tickets_in_the_head_of_the_list_only(
    our_redis: RedisServer, tuning: Tuning
) -> None:
    batch = bus.batch([ADD, ADD]).dispatch()
    put_in_front(our_redis, 5)
    short = commands(our_redis, lambda: dispatch.ensure_tickets(batch, "default"))
    tuning(MAX_SEARCHED=3)
    long = commands(our_redis, lambda: dispatch.ensure_tickets(batch, "default"))

    assert short == {"smembers": 1, "llen": 1, "lpos": 2}
    assert long == {"smembers": 1, "llen": 1, "lpos": 2, "hget": 2}


@pytest.mark.usefixtures("_short_pages")
@pytest.mark.parametrize("others", range(1, 12))
def test_waiting_tickets_are_found_wherever_they_are(our_redis: RedisServer, others: int) -> None:
    batches = [bus.batch([ADD, ADD]).dispatch() for _ in range(3)]
    put_in_front(our_redis, others)

    assert list(reconcile(ALIAS)) == []
    assert [transport.waiting_tickets(each.pk, "default").queued for each in batches] == [2, 1, 1]
    assert our_redis.client.llen(LIST) == others + 4


@pytest.mark.usefixtures("_short_pages")
def test_lost_tickets_are_found_by_reconcile_despite_many_jobs_of_others(
    our_redis: RedisServer,
) -> None:
    whole, lost = (bus.batch([ADD, ADD]).dispatch() for _ in range(2))
    put_in_front(our_redis, 9)
    lose(our_redis, lost)

    repairs = list(reconcile(ALIAS))

    assert repairs == [Repair(RepairKind.TICKET, lost.pk, "default", 1)]
    assert list(reconcile(ALIAS)) == []
    assert transport.waiting_tickets(whole.pk, "default").queued == 2


@pytest.mark.usefixtures("_short_pages")
def test_tickets_that_are_sent_during_a_pass_are_not_taken_to_be_lost(
    our_redis: RedisServer, tuning: Tuning
) -> None:
    tuning(RECONCILE_CHUNK=1)
    batches = sorted((bus.batch([ADD]).dispatch() for _ in range(3)), key=lambda each: str(each.pk))
    put_in_front(our_redis, 9)
    for batch in batches:
        lose(our_redis, batch)
    passing = reconcile(ALIAS)
    first = next(passing)
    for batch in batches:
        transport.send(new_ticket(read(batch), "default"))

    later = list(passing)

    assert first.kind == RepairKind.TICKET
    assert later == []
    tickets = [each for each in our_redis.client.lrange(LIST, 0, -1) if each.startswith(b"jb-")]
    assert len(tickets) == 1 + len(batches)


@pytest.mark.usefixtures("_short_pages")
def test_tickets_that_leave_the_head_during_a_pass_hide_no_others(
    our_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [bus.batch([ADD]).dispatch() for _ in range(12)]
    queue = django_rq.get_queue("default")
    read_page = queue.connection.lrange
    pages: list[object] = []

    def lrange(*args: Any) -> Any:
        our_redis.client.lpop(LIST)
        pages.append(read_page(*args))
        return pages[-1]

    monkeypatch.setattr(queue.connection, "lrange", lrange)
    found = transport.QueueScan(queue).tickets()

    waiting = {each.decode() for each in our_redis.client.lrange(LIST, 0, -1)}
    assert len(pages) > 1
    assert len(batches) > len(waiting) > 0
    assert waiting <= found
