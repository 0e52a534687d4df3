"""Start times: of no delay at all, and at the ends of the calendar."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import django_rq
import pytest
from django.core.management import call_command
from django.utils import timezone

from django_jobbatch import bus, operations, transport
from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.reconcile import reconcile
from django_jobbatch.schedule import latest_moment
from django_jobbatch.transport import WaitingTickets
from tests import jobs
from tests.integration.tickets import work_on_all
from tests.jobs import ADD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("idle_workers"),
]

TOKYO, NEW_YORK = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")

NO_DELAY: dict[str, Callable[[], dict[str, Any]]] = {
    "zero": lambda: {"delay": 0},
    "timedelta": lambda: {"delay": timedelta(0)},
    "less than a microsecond": lambda: {"delay": 1e-9},
    "now": lambda: {"run_after": timezone.now()},
    "a moment ago": lambda: {"run_after": timezone.now() - timedelta(milliseconds=1)},
    "before 1970": lambda: {"run_after": datetime(1969, 7, 20, tzinfo=UTC)},
    "year 1": lambda: {"run_after": datetime.min.replace(tzinfo=UTC)},
    "year 1, east of Greenwich": lambda: {"run_after": datetime.min.replace(tzinfo=TOKYO)},
}

#: A batch with these options, and the number of its tickets.
SHAPES: dict[str, tuple[Callable[[dict[str, Any]], bus.Builder], int]] = {
    "job": (lambda at_once: bus.batch([ADD.options(**at_once)] * 2), 2),
    "batch": (lambda at_once: bus.batch([ADD] * 2).options(**at_once), 2),
    "chain": (lambda at_once: bus.chain(ADD, ADD).options(**at_once), 1),
    "first link": (lambda at_once: bus.chain(ADD.options(**at_once), ADD), 1),
    "link in the middle": (lambda at_once: bus.chain(ADD, ADD.options(**at_once), ADD), 1),
    "chain in a batch": (lambda at_once: bus.batch([bus.chain(ADD, ADD).options(**at_once)]), 1),
    "child": (lambda at_once: bus.batch([bus.batch([ADD] * 2).options(**at_once)]), 1),
    "job of a child": (lambda at_once: bus.batch([bus.batch([ADD.options(**at_once)])]), 1),
    "child in the middle": (
        lambda at_once: bus.chain(ADD, bus.batch([ADD] * 2).options(**at_once), ADD),
        1,
    ),
}


@pytest.fixture(params=NO_DELAY.values(), ids=list(NO_DELAY))
def at_once(request: pytest.FixtureRequest) -> dict[str, Any]:
    named: dict[str, Any] = request.param()
    return named


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> tuple[Callable[..., bus.Builder], int]:
    built: tuple[Callable[..., bus.Builder], int] = request.param
    return built


def scheduled() -> list[str]:
    return list(django_rq.get_queue("default").scheduled_job_registry.get_job_ids())


def waiting(batch: JobBatch) -> WaitingTickets:
    return transport.waiting_tickets(batch.pk, "default")


def outcomes() -> set[str]:
    return set(JobBatch.objects.values_list("outcome", flat=True))


def test_without_a_delay_a_ticket_is_queued_and_everything_runs(
    shape: tuple[Callable[..., bus.Builder], int], at_once: dict[str, Any]
) -> None:
    build, tickets = shape

    batch = build(at_once).dispatch()

    assert waiting(batch) == WaitingTickets(tickets, None)
    assert batch.next_event_at is None
    work_on_all()
    assert outcomes() == {"succeeded"}
    assert scheduled() == []


def test_what_is_added_without_a_delay_runs_too(at_once: dict[str, Any]) -> None:
    batch = bus.batch([ADD.options(delay=3600)]).dispatch()

    batch.add([ADD.options(**at_once), bus.batch([ADD]).options(**at_once)])
    waiting_tickets = waiting(batch).queued
    work_on_all()
    batch.refresh_from_db()

    assert waiting_tickets == 2
    assert (batch.succeeded_jobs, batch.pending_jobs) == (2, 1)


def test_a_batch_whose_start_has_passed_takes_jobs_at_once() -> None:
    batch = bus.batch([ADD]).options(delay=3600).dispatch()
    ago = (timezone.now() - timedelta(milliseconds=1)).isoformat()
    JobBatch.objects.filter(pk=batch.pk).update(options={**batch.options, "starts_at": ago})

    batch.add([ADD])

    assert waiting(batch).queued == 1
    assert batch.jobs.get(lane=1).available_at is None


def test_a_further_attempt_without_an_interval_runs_at_once(tmp_path: Any) -> None:
    flaky = bus.job(jobs.flaky, str(tmp_path / "calls"), 2)

    bus.batch([flaky]).options(retry=2, retry_interval=[0, 0]).dispatch()
    work_on_all()

    assert outcomes() == {"succeeded"}
    assert scheduled() == []


# The ends of the calendar


@pytest.fixture
def century() -> tuple[datetime, datetime]:
    """The bounds of the last moment that may be stored, while the test runs."""
    return latest_moment(), latest_moment() + timedelta(minutes=5)


def is_usable(batch: JobBatch) -> None:
    """Everything that reads rows of all batches reads this one, and a cancel ends it."""
    batch.refresh_from_db()
    assert batch in list(JobBatch.objects.all())
    assert list(BatchedJob.objects.filter(batch=batch).due()) == []
    batch.snapshot()
    call_command("list_batches", verbosity=0)
    call_command("show_batch", str(batch.pk), verbosity=0)
    list(reconcile("default", batch_id=batch.pk))
    assert operations.prune(finished=timedelta(0)).batches == 0
    assert batch.cancel()
    assert batch.outcome == "cancelled"


@pytest.mark.parametrize("zone", [UTC, TOKYO, NEW_YORK])
@pytest.mark.parametrize(
    "build",
    [
        lambda moment: bus.batch([ADD.options(run_after=moment)]),
        lambda moment: bus.batch([ADD]).options(run_after=moment),
        lambda moment: bus.chain(ADD, ADD).options(run_after=moment),
        lambda moment: bus.batch([bus.batch([ADD]).options(run_after=moment)]),
    ],
    ids=["job", "batch", "chain", "child"],
)
def test_the_last_moment_is_stored_and_read_on_every_database(
    build: Callable[[datetime], bus.Builder], zone: ZoneInfo
) -> None:
    moment = (latest_moment() - timedelta(seconds=1)).astimezone(zone)

    batch = build(moment).dispatch()

    (link,) = batch.jobs.filter(position=0)
    assert link.available_at == batch.next_event_at
    assert link.available_at is not None
    assert moment <= link.available_at < moment + timedelta(seconds=1)
    is_usable(batch)


@pytest.mark.parametrize("zone", [UTC, TOKYO, NEW_YORK])
def test_a_later_moment_is_rejected_everywhere(zone: ZoneInfo) -> None:
    last = datetime.max.replace(tzinfo=zone)

    for builder in (ADD, bus.batch([ADD]), bus.chain(ADD)):
        with pytest.raises(InvalidOption, match=r"pass a moment at most 100 years ahead\.$"):
            builder.options(run_after=last)


EDITED = [
    {"run_after": "9999-12-31T23:59:59-05:00"},
    {"run_after": "9999-12-31T23:59:59+00:00"},
    {"run_after": "2500-01-01T00:00:00"},
]


@pytest.mark.parametrize("options", EDITED)
def test_a_computed_moment_is_bounded_for_a_link_whose_turn_comes(
    options: dict[str, Any], century: tuple[datetime, datetime]
) -> None:
    batch = bus.chain(ADD, ADD).dispatch()
    batch.jobs.filter(position__gt=0).update(options=options)

    work_on_all()
    batch.refresh_from_db()

    at = batch.jobs.get(position__gt=0).available_at
    assert at is not None
    assert at == batch.next_event_at
    assert century[0] <= at <= century[1]
    is_usable(batch)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 1e300},
        {"delay": "soon"},
        {"delay": -1},
        {"run_after": "soon"},
        {"run_after": "10000-01-01T00:00:00+00:00"},
        {"run_after": "0001-01-01T00:00:00+09:00"},
        {"run_after": 7},
    ],
)
def test_a_start_time_that_cannot_be_read_is_none(options: dict[str, Any]) -> None:
    batch = bus.chain(ADD, ADD).dispatch()
    batch.jobs.filter(position__gt=0).update(options=options)

    work_on_all()
    batch.refresh_from_db()

    assert (batch.outcome, batch.succeeded_jobs) == ("succeeded", 2)


@pytest.mark.parametrize("options", EDITED)
def test_a_computed_moment_is_bounded_for_an_added_job(
    options: dict[str, Any], century: tuple[datetime, datetime]
) -> None:
    batch = bus.batch([ADD]).options(delay=3600).dispatch()
    edited = {**batch.options, "starts_at": options["run_after"]}
    JobBatch.objects.filter(pk=batch.pk).update(options=edited)

    batch.add([ADD])

    at = batch.jobs.get(lane=1).available_at
    assert at is not None
    assert century[0] <= at <= century[1]
    is_usable(batch)


@pytest.mark.parametrize("name", ["finished", "unfinished", "cancelled", "failures"])
@pytest.mark.parametrize("age", [timedelta(days=10**6), timedelta.max])
def test_an_age_that_no_batch_can_have_is_rejected(name: str, age: timedelta) -> None:
    with pytest.raises(InvalidOption, match=r"pass a timedelta of at most 100 years\.$"):
        operations.prune(**{name: age})  # type: ignore[arg-type]  # one of its four ages


def test_an_age_of_a_century_prunes_nothing() -> None:
    batch = bus.batch([]).dispatch()

    assert operations.prune(finished=timedelta(days=36_525)).total == 0
    assert JobBatch.objects.get() == batch
