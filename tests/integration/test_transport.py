"""Tickets on a real Valkey."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import django_rq
import pytest
from rq import Queue
from rq.job import JobStatus

from django_jobbatch import TransportError, UnknownQueue, dispatch, transport, tuning
from django_jobbatch.transport import (
    UNKNOWN_TICKETS,
    OtherTickets,
    QueueLoad,
    Ticket,
    WaitingTickets,
    consumer,
)
from django_jobbatch.transport.consumer import StartedTicket
from django_jobbatch.transport.queues import queue_named
from django_jobbatch.transport.tickets import TICKET_FUNCTION, share_of
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = pytest.mark.usefixtures("redis_server")

NOON = datetime(2030, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def ticket() -> Ticket:
    return Ticket(uuid.uuid4(), "default", "default", 125, "Import: shop.jobs.sync")


def keys(server: RedisServer) -> list[str]:
    """The keys of tickets, and of the sets that remember them."""
    found = [*server.client.keys("rq:job:*"), *server.client.keys("jobbatch:*")]
    return sorted(key.decode() for key in found)


def test_every_ticket_is_sent_under_a_new_id(ticket: Ticket) -> None:
    queue = django_rq.get_queue("default")

    transport.send(ticket, 2)
    transport.send(ticket)
    transport.schedule(ticket, NOON)

    ids = [*queue.job_ids, *queue.scheduled_job_registry.get_job_ids()]
    assert len(ids) == len(set(ids)) == 4
    assert {each.rpartition("-")[0] for each in ids} == {f"jb-{ticket.batch_id.hex}"}
    # RQ takes letters, digits, "-" and "_" only; a claim keeps up to 64 of them.
    assert all(each.replace("-", "").isalnum() and len(each) <= 64 for each in ids)


@pytest.mark.parametrize("name", ["default", "json"])
def test_a_ticket_says_what_to_work_on_and_nothing_of_the_jobs(ticket: Ticket, name: str) -> None:
    transport.send(replace(ticket, queue=name))

    (job,) = django_rq.get_queue(name).jobs
    assert (job.func_name, tuple(job.args), job.kwargs) == (
        "django_jobbatch.runner.work",
        (str(ticket.batch_id), name, "default"),
        {},
    )
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (125, 0, 3600)
    assert job.description == "Import: shop.jobs.sync"


def test_a_ticket_is_listed_by_rq_like_any_job(ticket: Ticket) -> None:
    transport.send(ticket)

    (queue,) = Queue.all(connection=django_rq.get_connection("default"))
    (job,) = queue.jobs
    assert (queue.name, job.origin, job.get_status()) == ("default", "default", JobStatus.QUEUED)
    assert job.enqueued_at == job.created_at


@pytest.mark.parametrize("name", ["default", "json"])
def test_rq_reads_a_ticket_as_a_job_of_its_own_although_empty_fields_are_missing(
    ticket: Ticket, redis_server: RedisServer, name: str
) -> None:
    ticket = replace(ticket, queue=name)
    transport.send(ticket)
    queue = django_rq.get_queue(name)
    (sent,) = queue.jobs
    stored = redis_server.client.hgetall(sent.key)

    own = queue.create_job(
        TICKET_FUNCTION,
        args=ticket.args,
        timeout=ticket.timeout,
        result_ttl=0,
        failure_ttl=3600,
        description=ticket.description,
        job_id=sent.id,
        status=JobStatus.QUEUED,
    )
    own.created_at = own.enqueued_at = sent.created_at
    own.save()

    (read,) = queue.jobs
    assert read.to_dict() == sent.to_dict()
    with_empty = redis_server.client.hgetall(sent.key)
    assert stored == {field: value for field, value in with_empty.items() if value}


@pytest.mark.parametrize(
    ("workers", "due", "share"),
    [
        (0, 10, None),
        (1, 10, None),
        (4, 1, None),
        (2, 10, 5),
        (4, 10, 3),
        (4, 3, 1),
        (10, 10, 1),
        (100, 16, 1),
        (100, 10_000, 15),
    ],
)
@pytest.mark.parametrize("length", [0, 1])
def test_tickets_for_idle_workers_share_the_due_links(
    ticket: Ticket,
    redis_server: RedisServer,
    length: int,
    workers: int,
    due: int,
    share: int | None,
) -> None:
    redis_server.listen(workers)
    queue = django_rq.get_queue("default")
    for _ in range(length):
        transport.send(replace(ticket, batch_id=uuid.uuid4()))

    transport.send(ticket, min(due, tuning.MAX_TICKETS), due=due)

    sent = queue.job_ids[length:]
    assert len(set(sent)) == len(sent) == dispatch.wanted_tickets(due, QueueLoad(length, workers))
    assert {share_of(each) for each in sent} == {None if length else share}
    assert transport.waiting_tickets(ticket.batch_id, "default").queued == len(sent)
    assert {(tuple(each.args), each.origin, each.timeout) for each in queue.jobs[length:]} == {
        (ticket.args, "default", 125)
    }


def test_the_tickets_of_a_batch_for_several_idle_workers_are_one_request(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    def round_trips() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    redis_server.listen(4)
    transport.send(ticket)  # it is connected, and Redis has the script
    redis_server.client.delete("rq:queue:default")
    before, after_nothing = round_trips(), round_trips()
    transport.send(ticket, 10, due=10)

    assert round_trips() - after_nothing - (after_nothing - before) == 1
    assert len(django_rq.get_queue("default")) == 4


def test_a_ticket_that_starts_knows_its_share(ticket: Ticket, redis_server: RedisServer) -> None:
    redis_server.listen(2)
    transport.send(ticket, 6, due=6)
    (job, _) = django_rq.get_queue("default").jobs

    with mock.patch.object(consumer, "get_current_job", return_value=job):
        started = transport.start_ticket(ticket.batch_id, "default")

    assert started == StartedTicket(job.id, 125, OtherTickets(waiting=1, share=3))


def test_the_default_timeout_follows_the_settings(settings: Any) -> None:
    before = transport.default_timeout("default")

    queues = {**settings.RQ_QUEUES, "default": {**settings.RQ_QUEUES["default"]}}
    queues["default"]["DEFAULT_TIMEOUT"] = before + 1
    settings.RQ_QUEUES = queues

    assert transport.default_timeout("default") == before + 1


def test_a_reconcile_and_a_ticket_with_its_expiry_cost_little_more_than_a_kilobyte(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    def received() -> int:
        return int(redis_server.client.info("stats")["total_net_input_bytes"])

    line = transport.line_of(ticket.batch_id, "slow")
    transport.send_if_unchanged(replace(ticket, queue="slow"), 1, line)  # Redis has the script
    before, after_nothing = received(), received()

    line = transport.line_of(ticket.batch_id, "default")
    transport.send_if_unchanged(ticket, 1, line)

    assert received() - after_nothing - (after_nothing - before) < 1330


def test_a_ticket_is_sent_into_an_unchanged_line_by_one_request(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    def round_trips() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    line = transport.line_of(ticket.batch_id, "default")
    answers = [transport.send_if_unchanged(ticket, 2, line)]  # it is connected, and has the script
    line = transport.line_of(ticket.batch_id, "default")
    before, after_nothing = round_trips(), round_trips()
    answers.append(transport.send_if_unchanged(ticket, 1, line))

    assert round_trips() - after_nothing - (after_nothing - before) == 1
    assert answers == [True, True]
    assert transport.waiting_tickets(ticket.batch_id, "default").queued == 3


def test_no_ticket_is_sent_into_a_line_with_further_tickets_of_its_batch(ticket: Ticket) -> None:
    transport.send(ticket)
    line = transport.line_of(ticket.batch_id, "default")
    transport.send(replace(ticket, batch_id=uuid.uuid4()))
    beside_others = transport.send_if_unchanged(ticket, 1, line)
    keys = django_rq.get_queue("default").job_ids

    assert beside_others
    assert not transport.send_if_unchanged(ticket, 1, line)
    assert django_rq.get_queue("default").job_ids == keys


def test_several_tickets_are_sent_into_an_empty_queue_only(ticket: Ticket) -> None:
    line = transport.line_of(ticket.batch_id, "default")
    transport.send(replace(ticket, batch_id=uuid.uuid4()))

    assert not transport.send_if_unchanged(ticket, 2, line)
    assert transport.send_if_unchanged(ticket, 1, line)
    assert len(django_rq.get_queue("default")) == 2


def test_a_ticket_of_an_unchanged_line_is_as_any_other(ticket: Ticket) -> None:
    def stored() -> dict[bytes, bytes]:
        queue = django_rq.get_queue("default")
        (key,) = queue.job_ids
        values: Any = queue.connection.hgetall(f"rq:job:{key}")
        queue.empty()
        return {name: text for name, text in values.items() if not name.endswith(b"_at")}

    transport.send(ticket)
    sent = stored()
    transport.send_if_unchanged(ticket, 1, transport.line_of(ticket.batch_id, "default"))

    assert stored() == sent


def test_a_scheduled_ticket_is_of_the_same_kind(ticket: Ticket) -> None:
    transport.schedule(ticket, NOON)

    queue = django_rq.get_queue("default")
    (job_id,) = queue.scheduled_job_registry.get_job_ids()
    job = queue.fetch_job(job_id)
    assert job is not None
    assert queue.scheduled_job_registry.get_scheduled_time(job_id) == NOON
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (125, 0, 3600)
    assert job.description == "Import: shop.jobs.sync"


def test_what_redis_keeps_of_waiting_tickets_expires(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    month = tuning.TICKET_REGISTRY_TTL
    key = f"jobbatch:{ticket.batch_id.hex}:default"

    def remaining(key: str) -> timedelta:
        # To the minute, since the test takes some time itself.
        return timedelta(minutes=round(int(redis_server.client.ttl(key)) / 60))

    transport.send(ticket)
    sent = remaining(key)
    transport.schedule(ticket, datetime.now(UTC) + timedelta(days=100))
    scheduled = remaining(key)
    transport.schedule(replace(ticket, queue="other"), datetime.now(UTC) - timedelta(days=1))
    overdue = remaining(f"jobbatch:{ticket.batch_id.hex}:other")
    (job_id,) = django_rq.get_queue("default").scheduled_job_registry.get_job_ids()
    (sent_id,) = django_rq.get_queue("default").job_ids

    assert (sent, scheduled, overdue) == (month, month + timedelta(days=100), month)
    assert remaining(f"rq:job:{job_id}") == month + timedelta(days=100)
    # RQ deletes this one when it has run.
    assert redis_server.client.ttl(f"rq:job:{sent_id}") == -1


def test_the_registry_outlives_the_ticket_that_is_scheduled_for_the_next_event(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    event = datetime.now(UTC) + timedelta(days=60)
    transport.schedule(ticket, event)

    transport.send(replace(ticket, next_event_at=event))

    seconds = int(redis_server.client.ttl(f"jobbatch:{ticket.batch_id.hex}:default"))
    days = tuning.TICKET_REGISTRY_TTL.days + 60
    assert round(seconds / 86_400) == days


def test_a_ticket_is_sent_in_one_pipeline(ticket: Ticket, redis_server: RedisServer) -> None:
    def commands() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    transport.send(ticket)  # it is connected
    before, after_nothing = commands(), commands()
    transport.send(ticket, 3)

    assert commands() - after_nothing - (after_nothing - before) == 1


def test_waiting_counts_queued_tickets_and_reads_the_next_scheduled(ticket: Ticket) -> None:
    other = replace(ticket, batch_id=uuid.uuid4())

    transport.send(ticket, 2)
    transport.schedule(ticket, NOON + timedelta(hours=1))
    transport.schedule(ticket, NOON)
    transport.send(other)

    assert transport.waiting_tickets(ticket.batch_id, "default") == WaitingTickets(2, NOON)
    assert transport.waiting_tickets(other.batch_id, "default") == WaitingTickets(1, None)
    assert transport.waiting_tickets(ticket.batch_id, "slow") == WaitingTickets(0, None)


def test_a_ticket_is_scheduled_unless_an_earlier_one_is(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    another = replace(ticket, batch_id=uuid.uuid4())
    transport.schedule(another, NOON - timedelta(hours=1))

    counts = []
    for hours in (1, 2, 1, 0, 1):
        transport.schedule(ticket, NOON + timedelta(hours=hours))
        counts.append(redis_server.client.zcard("rq:scheduled:default"))

    assert counts == [2, 2, 2, 3, 3]
    assert transport.waiting_tickets(ticket.batch_id, "default").scheduled_at == NOON


def test_a_ticket_that_was_popped_and_lost_does_not_wait(
    ticket: Ticket, redis_server: RedisServer
) -> None:
    transport.send(ticket, 2)
    queue = django_rq.get_queue("default")

    redis_server.client.lpop(queue.key)

    assert transport.waiting_tickets(ticket.batch_id, "default") == WaitingTickets(1, None)
    (remembered,) = redis_server.client.smembers(f"jobbatch:{ticket.batch_id.hex}:default")
    assert queue.job_ids == [f"jb-{ticket.batch_id.hex}-{remembered.decode()}"]


def test_a_ticket_that_starts_learns_how_many_still_wait(ticket: Ticket) -> None:
    transport.send(ticket, 3)
    transport.send(replace(ticket, batch_id=uuid.uuid4()), 2)
    (job, *_) = django_rq.get_queue("default").jobs

    with mock.patch.object(consumer, "get_current_job", return_value=job):
        started = [transport.start_ticket(ticket.batch_id, "default") for _ in range(2)]

    assert started == [StartedTicket(job.id, 125, OtherTickets(2))] * 2


def test_a_ticket_that_starts_without_redis_does_not_know_how_many_wait(
    ticket: Ticket, our_redis: RedisServer
) -> None:
    transport.send(ticket, 3)
    (job, *_) = django_rq.get_queue("default").jobs
    our_redis.stop()

    with mock.patch.object(consumer, "get_current_job", return_value=job):
        started = transport.start_ticket(ticket.batch_id, "default")

    assert started == StartedTicket(job.id, 125, UNKNOWN_TICKETS)


def test_only_unstarted_tickets_are_deleted(ticket: Ticket, redis_server: RedisServer) -> None:
    other = replace(ticket, batch_id=uuid.uuid4())
    transport.send(ticket, 3)
    transport.send(replace(ticket, queue="slow"))
    transport.schedule(ticket, NOON)
    transport.send(other)
    started = redis_server.client.lpop(django_rq.get_queue("default").key)
    (others,) = (
        each for each in django_rq.get_queue("default").job_ids if other.batch_id.hex in each
    )

    transport.discard(ticket.batch_id, ["default", "slow", "other"])

    assert django_rq.get_queue("default").job_ids == [others]
    assert django_rq.get_queue("default").scheduled_job_registry.get_job_ids() == []
    assert django_rq.get_queue("slow").job_ids == []
    assert keys(redis_server) == sorted(
        [
            f"jobbatch:{other.batch_id.hex}:default",
            f"rq:job:{started.decode()}",
            f"rq:job:{others}",
        ]
    )


def test_a_queue_that_is_not_there_is_named_with_those_that_are(ticket: Ticket) -> None:
    with pytest.raises(UnknownQueue) as caught:
        transport.send(replace(ticket, queue="imports"))

    assert str(caught.value) == (
        "There is no queue 'imports' in RQ_QUEUES; it has default, json, other, slow, sync."
    )


def test_a_worker_reads_a_ticket_without_a_queue_that_its_work_horses_would_inherit(
    ticket: Ticket,
) -> None:
    transport.send(ticket)
    (job,) = django_rq.get_queue("default").jobs
    queue_named.cache_clear()

    read = transport.parse_ticket(job)

    assert read == ticket
    assert queue_named.cache_info().currsize == 0


def test_stopping_a_ticket_that_is_not_at_work_does_nothing(ticket: Ticket) -> None:
    transport.send(ticket)

    heard = transport.stop("default", [*django_rq.get_queue("default").job_ids, "jb-gone"])

    assert heard == set()
    assert transport.waiting_tickets(ticket.batch_id, "default") == WaitingTickets(1, None)


def test_a_stop_request_that_no_worker_hears_is_an_error_that_names_it(
    ticket: Ticket, redis_server: RedisServer, tuning: Tuning
) -> None:
    tuning(STOP_SECONDS=0)
    transport.send(ticket)
    (job,) = django_rq.get_queue("default").jobs
    redis_server.client.hset(job.key, mapping={"status": "started", "worker_name": "worker-x"})

    with pytest.raises(TransportError) as caught:
        transport.stop("default", [job.id])

    assert str(caught.value) == "no stop request reached worker-x"


def test_a_stop_request_that_no_worker_hears_waits_within_the_budget(
    ticket: Ticket, redis_server: RedisServer, tuning: Tuning
) -> None:
    tuning(STOP_SECONDS=3600)
    transport.send(ticket)
    (job,) = django_rq.get_queue("default").jobs
    redis_server.client.hset(job.key, mapping={"status": "started", "worker_name": "worker-x"})
    budget = transport.RedisBudget(0.25)

    with transport.operation(budget), pytest.raises(TransportError):
        transport.stop("default", [job.id])

    assert budget.seconds <= 0


def test_a_server_that_is_away_is_one_kind_of_error(ticket: Ticket, our_redis: RedisServer) -> None:
    our_redis.stop()

    with pytest.raises(TransportError):
        transport.send(ticket)
    with pytest.raises(TransportError):
        transport.schedule(ticket, NOON)
    with pytest.raises(TransportError):
        transport.waiting_tickets(ticket.batch_id, "default")
    with pytest.raises(TransportError):
        transport.discard(ticket.batch_id, ["default"])
    with pytest.raises(TransportError):
        transport.stop("default", ["jb-1"])
