"""Sessions that take over tickets: which ones, at what cost, and what remains after their death."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import django_rq
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from rq import SimpleWorker
from rq.job import JobStatus
from rq.suspension import suspend
from rq.worker import SpawnWorker

from django_jobbatch import bus, dispatch, ledger, transport
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.exceptions import TransportError
from django_jobbatch.ledger.retries.cursor import RetryCursor
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile, reconcile_ticket
from django_jobbatch.runner.next_ticket import renew_session, take_next
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.runner.time_slice import Slice, Turn
from django_jobbatch.transport import NotTaken, OtherTickets, work_horse
from django_jobbatch.transport.budget import current_budget
from django_jobbatch.transport.queue_head import HeadTicket
from tests import jobs
from tests.event_log import EventLog
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.ledger.helpers import ALIAS, claim, fail, read, statuses
from tests.servers import RedisServer
from tests.tuning import Tuning
from tests.worker_classes import SpawnBatchWorker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

WORKER = "rq:worker:ours"
LIST = "rq:queue:default"
FIRST, OTHER = (f"jb-{uuid.uuid4().hex}-{digits}" for digits in ("00000001", "00000002"))


@pytest.fixture(autouse=True)
def _work_horse(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the work-horse of a worker that asks `other` first."""
    monkeypatch.setattr(work_horse, "_work_horse", None)
    transport.allow_taking_over(WORKER, ["rq:queue:other", LIST])


def session_of(server: RedisServer, ticket: str) -> list[bytes]:
    return list(server.client.lrange(f"jobbatch:session:{ticket}", 0, -1))


def slice_of(ticket: str = FIRST, *, seconds: float = 5, timeout: int = -1) -> Slice:
    return Slice(
        ticket=ticket,
        queue="default",
        using=ALIAS,
        deadline=time.monotonic() + seconds,
        max_job_timeout=timeout,
    )


def taken(time_slice: Slice) -> uuid.UUID | None:
    found = take_next(time_slice)
    return None if found is None else found.batch.pk


# One ticket


def test_a_spawned_work_horse_knows_the_queues_of_its_worker(redis_server: RedisServer) -> None:
    worker = SpawnBatchWorker(["other", "default"], connection=redis_server.client)
    worker._ordered_queues = []  # noqa: SLF001 - as RQ leaves it in a spawned process

    with (
        mock.patch.object(transport, "allow_taking_over") as allow,
        mock.patch.object(SpawnWorker, "main_work_horse"),
    ):
        worker.main_work_horse(None, None)

    assert allow.call_args == mock.call(worker.key, ["rq:queue:other", LIST])


def test_a_ticket_at_the_head_is_taken_over_without_a_trace(redis_server: RedisServer) -> None:
    redis_server.listen(2)
    batch = bus.batch([ADD] * 2).dispatch()
    first, second = django_rq.get_queue("default").job_ids

    found = take_next(slice_of())

    assert found is not None
    # Each of the two was sent with the other one, for one of the two jobs.
    assert (found.batch, found.others) == (batch, OtherTickets(waiting=1, share=1))
    assert django_rq.get_queue("default").job_ids == [second]
    assert redis_server.client.keys("rq:job:*") == [f"rq:job:{second}".encode()]
    assert session_of(redis_server, FIRST) == [first.encode()]
    assert 0 < redis_server.client.ttl(f"jobbatch:session:{FIRST}") <= 86_400
    assert transport.waiting_tickets(batch.pk, "default").queued == 1


def test_two_sessions_never_take_over_one_ticket() -> None:
    batch = bus.batch([ADD]).dispatch()
    head = transport.head_ticket("default")
    assert head is not None

    answers = [transport.take_over(head, "default", ticket) for ticket in (FIRST, OTHER)]

    assert answers == [OtherTickets(0), NotTaken.MOVED]
    assert transport.current_batches("default", [FIRST]) == {FIRST: batch.pk}
    assert transport.taken_over("default", OTHER) == []


def test_many_sessions_share_the_tickets_of_a_queue(redis_server: RedisServer) -> None:
    batches = {bus.batch([ADD]).dispatch().pk for _ in range(12)}
    found: list[uuid.UUID] = []

    def take_all(number: int) -> None:
        try:
            while (head := transport.head_ticket("default")) is not None:
                ticket = f"jb-{uuid.uuid4().hex}-{number:08}"
                if transport.take_over(head, "default", ticket) == OtherTickets(0):
                    found.append(head.batch_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=take_all, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 12
    assert set(found) == batches
    assert redis_server.client.keys("rq:job:*") == []


def test_a_take_over_whose_answer_was_lost_is_recognised(redis_server: RedisServer) -> None:
    bus.batch([ADD]).dispatch()
    head = transport.head_ticket("default")
    assert head is not None

    answers = [transport.take_over(head, "default", FIRST) for _ in range(2)]
    redis_server.client.rpush(LIST, head.id)
    delivered_again = transport.take_over(head, "default", FIRST)

    assert answers == [OtherTickets(0), OtherTickets(0)]
    assert session_of(redis_server, FIRST) == [head.id.encode()]
    assert delivered_again is NotTaken.FORBIDDEN


def put_foreign_job(server: RedisServer) -> None:
    django_rq.get_queue("default").enqueue(jobs.add, 1, 2, at_front=True)


def put_job_on_other(server: RedisServer) -> None:
    django_rq.get_queue("other").enqueue(jobs.add, 1, 2)


def suspend_workers(server: RedisServer) -> None:
    suspend(server.client)


def request_shutdown(server: RedisServer) -> None:
    server.client.hset(WORKER, "shutdown_requested_date", "now")


def deliver_twice(server: RedisServer) -> None:
    (job,) = django_rq.get_queue("default").jobs
    job.set_status(JobStatus.STARTED)


def delete_job(server: RedisServer) -> None:
    (job,) = django_rq.get_queue("default").jobs
    server.client.delete(job.key)


def put_ticket_of_another_project(server: RedisServer) -> None:
    server.client.lpush(LIST, f"jb-{uuid.uuid4().hex}-0123abcd")


@pytest.mark.parametrize(
    "prevent",
    [
        put_foreign_job,
        put_job_on_other,
        suspend_workers,
        request_shutdown,
        deliver_twice,
        delete_job,
        put_ticket_of_another_project,
    ],
)
def test_a_session_takes_nothing_that_its_worker_would_not_take_next(
    prevent: Callable[[RedisServer], None], redis_server: RedisServer
) -> None:
    bus.batch([ADD]).dispatch()
    prevent(redis_server)
    before = redis_server.client.lrange(LIST, 0, -1)

    assert taken(slice_of()) is None
    assert redis_server.client.lrange(LIST, 0, -1) == before
    assert session_of(redis_server, FIRST) == []


@pytest.mark.parametrize(
    "builder",
    [bus.batch([ADD]).isolated(), bus.batch([ADD]).options(timeout=999)],
    ids=["isolated", "longer than the ticket"],
)
def test_a_batch_that_needs_a_ticket_of_its_own_keeps_it(builder: BatchBuilder) -> None:
    builder.dispatch()

    assert taken(slice_of(timeout=180)) is None
    assert len(django_rq.get_queue("default")) == 1


def test_a_stopping_batch_keeps_its_ticket() -> None:
    batch = bus.batch([ADD]).dispatch()
    ledger.cancel(ALIAS, batch.pk)

    assert taken(slice_of()) is None


def test_a_batch_whose_retry_is_unfinished_keeps_its_ticket() -> None:
    batch = bus.batch([ADD]).dispatch()
    JobBatch.objects.filter(pk=batch.pk).update(retry_cursor=RetryCursor().advanced_to(0))

    assert taken(slice_of()) is None


@pytest.mark.parametrize("all_failed", [False, True], ids=["running", "finished"])
def test_a_retry_that_starts_while_a_ticket_is_taken_over_is_continued(
    *, all_failed: bool, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    tuning(LINKS_CHUNK=2, CALL_SECONDS=0)
    batch = bus.batch([ADD] * 6).allow_failures().dispatch()
    fail(batch, claim(batch, 6 if all_failed else 5))
    really = transport.take_over

    def take_over_after_retry(*arguments: Any) -> Any:
        monkeypatch.setattr(transport, "take_over", really)
        assert read(batch).retry() == (6 if all_failed else 5)
        return really(*arguments)

    monkeypatch.setattr(transport, "take_over", take_over_after_retry)
    other = bus.batch([ADD]).on_queue("slow").dispatch()

    TicketSession("default", ALIAS, FIRST).run(other)
    ran_in_session = read(batch).succeeded_jobs
    work_on_all()

    assert 0 < ran_in_session < 6
    assert (read(batch).outcome, read(batch).succeeded_jobs) == ("succeeded", 6)
    assert list(JobBatch.objects.not_at_rest().exclude(pk=other.pk)) == []


def test_a_slice_with_less_than_a_second_left_takes_nothing() -> None:
    bus.batch([ADD]).dispatch()

    assert taken(slice_of(seconds=0.9)) is None


def test_only_a_work_horse_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bus.batch([ADD]).dispatch()
    monkeypatch.setattr(work_horse, "_work_horse", None)

    assert taken(slice_of()) is None


def test_a_queue_that_the_worker_does_not_know_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus.batch([ADD]).dispatch()
    transport.allow_taking_over(WORKER, ["rq:queue:other"])

    assert taken(slice_of()) is None


def test_without_redis_a_session_ends_with_its_batch(
    our_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    our_redis.stop()

    assert taken(slice_of()) is None
    assert f"Ticket {FIRST} took over no other" in caplog.text


@pytest.mark.parametrize("has_run", [True, False])
def test_a_batch_keeps_a_ticket_if_the_answer_to_its_take_over_never_comes(
    has_run: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = bus.batch([ADD]).dispatch()
    take_over = transport.take_over
    address = django_rq.get_connection("default").connection_pool.connection_kwargs["path"]

    def lose_answer(head: HeadTicket, queue: str, session: str) -> OtherTickets | NotTaken:
        if has_run:
            assert take_over(head, queue, session) == OtherTickets(0)
        # All requests of an operation fail after the first one that was not answered.
        current_budget().note_failure(address, TimeoutError("late"))
        raise TransportError("no answer")

    monkeypatch.setattr(transport, "take_over", lose_answer)

    assert taken(slice_of()) is None
    assert transport.waiting_tickets(batch.pk, "default").queued == 1


# Turns


def test_a_turn_asks_for_others_only_after_its_second(tuning: Tuning) -> None:
    answers = [True, False]
    turn = Turn(answers.pop)

    early = [turn.is_over, turn.is_over]
    tuning(TURN_SECONDS=0, TURN_PEEK_SECONDS=0)
    turn.start()
    late = [turn.is_over, turn.is_over, turn.is_over]

    assert (early, late, answers) == ([False, False], [False, True, True], [])


def test_without_redis_a_turn_asks_once_in_its_seconds_and_a_session_logs_it_once(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def fail(*arguments: object) -> bool:
        asked.append(arguments)
        raise TransportError("Redis is away")

    monkeypatch.setattr(transport, "others_wait", fail)
    tuning(TURN_SECONDS=0, TURN_PEEK_SECONDS=0)
    turn = TicketSession("default", ALIAS, FIRST).slice.turn
    assert turn is not None

    answers = [turn.is_over, turn.is_over]
    tuning(TURN_SECONDS=600)
    answers += [turn.is_over, turn.is_over]

    assert answers == [False] * 4
    assert len(asked) == 3
    assert caplog.text.count("Redis is away") == 1


def test_tickets_of_the_batches_of_a_session_end_no_turn(redis_server: RedisServer) -> None:
    redis_server.listen(3)
    batch = bus.batch([ADD] * 3).dispatch()
    alone = transport.others_wait("default", {batch.pk})
    other = bus.batch([ADD]).dispatch()

    assert not alone
    assert transport.others_wait("default", {batch.pk})
    assert not transport.others_wait("default", {batch.pk, other.pk})


def test_a_queue_that_the_worker_asks_first_ends_a_turn(redis_server: RedisServer) -> None:
    batch, urgent = (bus.batch([ADD]).on_queue(name).dispatch() for name in ("default", "other"))

    def round_trips() -> int:
        return int(redis_server.client.info("stats")["total_reads_processed"])

    before, after_nothing = round_trips(), round_trips()
    ends = transport.others_wait("default", {batch.pk})
    trips = round_trips() - after_nothing - (after_nothing - before)
    django_rq.get_queue("other").empty()

    assert ends
    assert trips == 1
    assert not transport.others_wait("default", {batch.pk})
    assert not transport.others_wait("other", {urgent.pk})


@pytest.mark.parametrize(
    ("queues", "ends"), [(["other", "default"], "True"), (["default", "other"], "False")]
)
def test_a_turn_in_a_worker_of_rq_ends_by_the_queues_that_it_asks_first(
    queues: list[str], ends: str, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_horse, "_work_horse", None)
    path = event_log.path("others wait")
    django_rq.get_queue("default").enqueue(jobs.record_others_wait, path, "other")

    SimpleWorker(queues, connection=django_rq.get_connection("default")).work(burst=True)

    assert event_log.lines("others wait") == [ends, ends]


def test_a_batch_gives_way_to_another_and_comes_again(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    redis_server.listen(2)
    large, small = (bus.batch([event_log.job(name)] * 2).dispatch() for name in ("large", "small"))
    assert [transport.waiting_tickets(each.pk, "default").queued for each in (large, small)] == [
        2,
        1,
    ]
    django_rq.get_queue("default").pop_job_id()
    ran = []

    class ShortTurn(Turn):
        """A turn of one job."""

        def start(self) -> None:
            ran.append(len(event_log.lines("jobs")))

        @property
        def is_over(self) -> bool:
            return len(event_log.lines("jobs")) > ran[-1] and self._others_wait()

        has_given_way = is_over

    monkeypatch.setattr("django_jobbatch.runner.session.Turn", ShortTurn)

    TicketSession("default", ALIAS, FIRST).run(large)

    assert event_log.lines("jobs") == ["large", "small", "large", "small"]
    assert [read(batch).outcome for batch in (large, small)] == ["succeeded"] * 2
    assert redis_server.client.keys("jobbatch:*") == []


# Between two batches


def test_nothing_is_left_of_a_batch_for_the_next_one(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (bus.batch([ADD]).dispatch() for _ in range(2))
    django_rq.get_queue("default").pop_job_id()
    languages = []
    request_more = TicketSession.request_more_tickets

    def activate(session: TicketSession) -> None:
        if threading.current_thread() is threading.main_thread():  # the heartbeat calls it too
            languages.append(translation.get_language())
            translation.activate("de")
        request_more(session)

    monkeypatch.setattr(TicketSession, "request_more_tickets", activate)
    language = translation.get_language()

    TicketSession("default", ALIAS, FIRST).run(first)

    assert read(second).is_finished
    assert languages == [language, language]
    assert translation.get_language() == language


def test_a_healthy_connection_stays_from_batch_to_batch() -> None:
    first, second = (bus.batch([ADD]).dispatch() for _ in range(2))
    django_rq.get_queue("default").pop_job_id()
    connection.ensure_connection()
    before = connection.connection

    TicketSession("default", ALIAS, FIRST).run(first)

    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    assert read(second).is_finished
    assert connection.connection is before


def test_the_list_of_a_long_session_does_not_expire(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its heartbeat, a quarter of a day has passed."""
    seconds = {threading.main_thread(): 0}
    clock = mock.Mock()
    clock.monotonic = lambda: time.monotonic() + seconds.get(threading.current_thread(), 21_600)
    monkeypatch.setattr("django_jobbatch.runner.session.time", clock)
    long = bus.job(jobs.hold_until_renewed, f"jobbatch:session:{FIRST}")
    batches = [bus.batch([job]).dispatch() for job in (ADD, long)]
    django_rq.get_queue("default").pop_job_id()

    TicketSession("default", ALIAS, FIRST).run(batches[0])

    assert [read(batch).outcome for batch in batches] == ["succeeded"] * 2


def test_without_redis_the_list_of_a_long_session_is_renewed_later(our_redis: RedisServer) -> None:
    our_redis.stop()

    renew_session(slice_of())


# After a death


def test_the_batches_of_a_dead_session_are_repaired(redis_server: RedisServer) -> None:
    own, left, held, lost = (bus.batch([ADD]).dispatch() for _ in range(4))
    redis_server.client.delete(LIST)
    claim(left)
    claim(held, ticket=FIRST)

    repairs = reconcile_ticket(ALIAS, own.pk, FIRST, taken_over=[held.pk, lost.pk])

    assert sorted((each.kind, each.batch_id) for each in repairs) == sorted(
        [(RepairKind.LOST, held.pk), (RepairKind.TICKET, lost.pk)]
    )
    assert transport.waiting_tickets(own.pk, "default").queued == 0
    assert statuses(left) == ["running"]
    assert held.jobs.get().worker_losses == 1


def test_the_death_of_a_stopped_session_costs_no_loss() -> None:
    own, held = (bus.batch([ADD]).dispatch() for _ in range(2))
    claim(held, ticket=FIRST)

    reconcile_ticket(ALIAS, own.pk, FIRST, taken_over=[held.pk], is_stopped=True)

    link = held.jobs.get()
    assert (link.status, link.worker_losses, link.attempts) == ("pending", 0, 0)


def execute(server: RedisServer, ticket: str) -> None:
    """Have RQ say that it executes this ticket."""
    server.client.zadd("rq:wip:default", {f"{ticket}:1": timezone.now().timestamp() + 60})


def test_an_executed_ticket_counts_for_the_batch_that_it_has_taken_over(
    redis_server: RedisServer,
) -> None:
    own, following = (bus.batch([ADD] * 2).dispatch() for _ in range(2))
    ticket, _ = django_rq.get_queue("default").job_ids
    execute(redis_server, ticket)
    redis_server.client.lpop(LIST)
    before = list(reconcile(ALIAS))
    head = transport.head_ticket("default")
    assert head is not None
    transport.take_over(head, "default", ticket)

    assert before == []
    assert list(reconcile(ALIAS)) == [Repair(RepairKind.TICKET, own.pk, "default", 1)]
    assert transport.waiting_tickets(following.pk, "default").queued == 0


def test_a_cancel_stops_no_session_that_works_on_another_batch(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, following = (bus.batch([ADD]).dispatch() for _ in range(2))
    ticket, _ = django_rq.get_queue("default").job_ids
    redis_server.client.lpop(LIST)
    claim(own, ticket=ticket)
    asked: list[set[str]] = []

    def stop(queue: str, ids: set[str], *, still_held: Callable[[set[str]], set[str]]) -> None:
        asked.append(still_held(ids))
        assert taken(slice_of(ticket)) == following.pk
        asked.append(still_held(ids))

    monkeypatch.setattr(transport, "stop", stop)

    own.cancel(stop_running=True)

    assert asked == [{ticket}, set()]


# Costs


@contextmanager
def monitored(server: RedisServer) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, without those of scripts and of new connections."""
    seen: list[str] = []
    with server.client.monitor() as monitor:
        yield seen
        server.client.echo("the end")
        for each in monitor.listen():
            if each["command"] == "ECHO the end":
                return
            name = str(each["command"]).split()[0].upper()
            if each["client_type"] != "lua" and name not in ("HELLO", "CLIENT", "PING"):
                seen.append(name)


def small_batch(event_log: EventLog) -> BatchBuilder:
    path = event_log.path("calls")
    builder = bus.batch([ADD] * 10).then(jobs.record_call, path, "then")
    return builder.finally_(jobs.record_call, path, "finally")


def test_commands_to_redis_of_small_batches_in_a_row(
    redis_server: RedisServer, event_log: EventLog, settings: Any, tuning: Tuning
) -> None:
    """RQ's own commands for a ticket are left out: those for a job that does nothing."""
    settings.JOBBATCH = {"SLICE": 600, "LEASE": 6000}
    tuning(TURN_SECONDS=600, HELP_AFTER_SECONDS=600, PEEK_SECONDS=600, HEARTBEAT_SECONDS=600)
    queue = django_rq.get_queue("default")
    worker = SimpleWorker([queue], connection=queue.connection)

    def run(jobs_of_others: int, small_batches: int) -> int:
        for _ in range(jobs_of_others):
            queue.enqueue(jobs.add, 1, 2, result_ttl=0)
        batches = [small_batch(event_log).dispatch() for _ in range(small_batches)]
        with monitored(redis_server) as commands:
            worker.work(burst=True)
        assert [read(batch).outcome for batch in batches] == ["succeeded"] * small_batches
        return len(commands)

    run(1, 2)  # everything is connected and loaded
    with monitored(redis_server) as dispatched:
        small_batch(event_log).dispatch()
    run(0, 0)
    one_job = run(1, 0)
    of_rq = run(2, 0) - one_job
    first = run(1, 1) - one_job - of_rq
    row = run(1, 11) - one_job - of_rq

    # A dispatch is one script. The head of the queue and the script for each further batch, and the
    # end of the row.
    assert (dispatched, first, row - first) == (["EVALSHA"], 4, 10 * 2 + 1)


def test_overdue_batches_are_searched_once_a_second(redis_server: RedisServer) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            dispatch.check_overdue(ALIAS, "default")
        return len(queries)

    searches = [statements() for _ in range(3)]
    (key,) = redis_server.client.keys("jobbatch:overdue:*")
    assert 0 < redis_server.client.pttl(key) <= 1000
    redis_server.client.delete(key)

    assert [*searches, statements()] == [1, 0, 0, 1]


def test_without_redis_overdue_batches_are_searched(our_redis: RedisServer) -> None:
    our_redis.stop()

    with CaptureQueriesContext(connection) as queries:
        dispatch.check_overdue(ALIAS, "default")

    assert len(queries) == 1
