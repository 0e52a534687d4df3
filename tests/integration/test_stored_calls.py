"""Calls as the database keeps them: what was dispatched runs, and nothing else is even imported."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import django_rq
import pytest
from django.core.signing import Signer
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from pytest_django import Settings

from django_jobbatch import bus, ledger, payload
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import reconcile
from django_jobbatch.runner import work
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import LinkStatus, Role
from tests import jobs
from tests.event_log import End, EventLog
from tests.factories import signed
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db(transaction=True)

FUNCTION_NOT_FOUND = "django_jobbatch.exceptions.FunctionNotFound"
PAYLOAD_ERROR = "django_jobbatch.exceptions.PayloadRefused"
#: A module of the standard library that no package imports, as it prints a poem.
NEVER_IMPORTED = "this"

Edit = Callable[[JobBatch], object]


def dispatched(builder: BatchBuilder, edit: Edit) -> JobBatch:
    """The batch as it ended, on a queue that runs in place, after its rows were edited by hand."""
    with transaction.atomic():
        batch = builder.on_queue("sync").dispatch()
        edit(batch)
    batch.refresh_from_db()
    return batch


def recording(event_log: EventLog, *texts: str) -> BatchBuilder:
    return bus.batch([event_log.job(text) for text in texts])


def failures(batch: JobBatch) -> list[tuple[str, str, int]]:
    return list(batch.failures.values_list("exception_class", "message", "attempts"))


def payload_error(attempts: int = 1) -> tuple[str, str, int]:
    return (
        PAYLOAD_ERROR,
        "The stored call was not signed by this application for this batch and role, so it was not"
        " run. If SECRET_KEY has changed since the dispatch, put the former key into"
        " SECRET_KEY_FALLBACKS and retry the job.",
        attempts,
    )


def by_unknown_key(batch: JobBatch, text: str) -> str:
    content = text.partition(":")[2]
    signer = Signer(key="somebody else's", salt=payload.SALT)
    return f"{signer.signature(f'{batch.pk.hex}:job:{content}')}:{content}"


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda batch, text: text.replace('"bad"', '"worse"'), id="argument"),
        pytest.param(
            lambda batch, text: text.replace("tests.jobs.record", f"{NEVER_IMPORTED}.s"),
            id="function",
        ),
        pytest.param(lambda batch, text: text.partition(":")[2], id="unsigned"),
        pytest.param(lambda batch, text: f":{text.partition(':')[2]}", id="empty signature"),
        pytest.param(by_unknown_key, id="unknown key"),
        pytest.param(
            lambda batch, text: signed(JobBatch().pk, payload_of(text)), id="another batch"
        ),
        pytest.param(
            lambda batch, text: signed(batch.pk, payload_of(text), role=Role.THEN),
            id="another role",
        ),
        pytest.param(lambda batch, text: "", id="empty"),
        pytest.param(lambda batch, text: f"x:{'[' * 100_000}", id="deep"),
    ],
)
def test_a_job_that_was_edited_or_copied_fails_and_never_runs(
    event_log: EventLog, edit: Callable[[JobBatch, str], str]
) -> None:
    def edit_one(batch: JobBatch) -> None:
        link = batch.jobs.get(lane=0)
        batch.jobs.filter(pk=link.pk).update(payload=edit(batch, link.payload))

    batch = dispatched(
        event_log.with_all_callbacks(
            recording(event_log, "bad", "good").options(retry=3).allow_failures()
        ),
        edit_one,
    )

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert failures(batch) == [payload_error()]
    assert event_log.ran() == ["good"]
    assert event_log.calls == [f"catch {payload_error()[1]}", "then partial", "finally partial"]
    assert NEVER_IMPORTED not in sys.modules


def payload_of(text: str) -> JobSpec:
    call = payload.load_unverified(text)
    return JobSpec(call.path, call.args, call.kwargs)


def test_a_rejected_job_stops_a_strict_batch_as_any_failure_does(event_log: EventLog) -> None:
    batch = dispatched(
        recording(event_log, "bad", "good"),
        lambda batch: batch.jobs.filter(lane=0).update(payload=""),
    )

    assert End.of(batch) == End(outcome="failed", total=2, failed=1, cancelled=1)
    assert [failure.func for failure in batch.failures] == ["(unreadable)"]
    assert event_log.ran() == []


def test_the_call_of_a_job_is_rejected_as_a_callback(event_log: EventLog) -> None:
    def make_the_job_a_callback(batch: JobBatch) -> None:
        batch.callbacks[0]["payload"] = batch.jobs.get().payload
        batch.save(update_fields=["callbacks"])

    batch = dispatched(
        recording(event_log, "once")
        .then(jobs.record_call, event_log.path("calls"), "then")
        .finally_(jobs.record_call, event_log.path("calls"), "finally"),
        make_the_job_a_callback,
    )

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert failures(batch) == [payload_error()]
    assert event_log.ran() == ["once"]
    assert event_log.calls == ["finally succeeded"]


def test_a_callback_is_rejected_in_the_role_of_another(event_log: EventLog) -> None:
    def turn_round(batch: JobBatch) -> None:
        for entry in batch.callbacks:
            entry["role"] = {"then": "finally", "finally": "then"}[entry["role"]]
        batch.save(update_fields=["callbacks"])

    batch = dispatched(
        recording(event_log, "once")
        .then(jobs.record_call, event_log.path("calls"), "then")
        .finally_(jobs.record_call, event_log.path("calls"), "finally"),
        turn_round,
    )

    assert End.of(batch).outcome == "succeeded"
    assert failures(batch) == [payload_error(), payload_error()]
    assert event_log.calls == []


def test_each_failure_is_called_in_no_other_role(event_log: EventLog) -> None:
    def copy_catch(batch: JobBatch) -> None:
        catch, each = batch.callbacks
        each["payload"] = catch["payload"]
        batch.save(update_fields=["callbacks"])

    batch = dispatched(
        bus.batch(bus.job(jobs.fail, "boom"))
        .catch(jobs.record_failure, event_log.path("calls"), "catch")
        .each_failure(jobs.record_failure, event_log.path("each"), "each"),
        copy_catch,
    )

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert [name for name, *_ in failures(batch)] == ["tests.jobs.JobFailed", PAYLOAD_ERROR]
    assert (event_log.calls, event_log.lines("each")) == (["catch boom"], [])


def test_progress_is_called_as_no_job(
    event_log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    def make_the_job_progress(batch: JobBatch) -> None:
        batch.options["progress"] = [batch.jobs.get().payload]
        batch.save(update_fields=["options"])

    with caplog.at_level(logging.ERROR, "django_jobbatch"):
        batch = dispatched(
            recording(event_log, "once").progress(jobs.record_progress, event_log.path("calls")),
            make_the_job_progress,
        )

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["once"]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        payload_error()[1]
    ]


def test_a_row_that_is_doubled_in_its_place_is_the_same_call_again(event_log: EventLog) -> None:
    def double(batch: JobBatch) -> None:
        link = batch.jobs.get()
        link.pk, link.lane = None, 1
        link.save()
        JobBatch.objects.filter(pk=batch.pk).update(
            total_jobs=F("total_jobs") + 1, pending_jobs=F("pending_jobs") + 1
        )

    batch = dispatched(recording(event_log, "again"), double)

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == ["again", "again"]


@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("is_transactional", [False, True])
@pytest.mark.parametrize("first_claim", [1, 2])
def test_a_row_that_is_doubled_but_not_counted_is_left_and_asks_for_no_ticket(
    first_claim: int, event_log: EventLog, tuning: Tuning, *, is_transactional: bool
) -> None:
    tuning(FIRST_CLAIM=first_claim)
    builder = recording(event_log, "once")
    batch = builder.options(transactional=is_transactional).dispatch()
    link = batch.jobs.get()
    link.pk, link.lane = None, 1
    link.save()
    queue = django_rq.get_queue("default")

    queue.empty()
    work(str(batch.pk), "default", "default")

    batch.refresh_from_db()
    assert (batch.outcome, batch.total_jobs, batch.pending_jobs) == ("succeeded", 1, 0)
    # A transactional job is settled before the next one starts, which is released then.
    assert event_log.ran() == ["once"] * (1 if is_transactional else first_claim)
    assert len(queue) == 0

    batch.jobs.update(lease_until=timezone.now())
    list(reconcile("default"))
    list(reconcile("default"))
    batch.refresh_from_db()
    assert (batch.outcome, batch.total_jobs, batch.pending_jobs) == ("succeeded", 1, 0)
    assert len(queue) == 0


@pytest.mark.usefixtures("redis_server")
def test_a_doubled_row_that_is_not_counted_survives_the_death_of_its_worker(
    event_log: EventLog,
) -> None:
    batch = recording(event_log, "once").dispatch()
    work(str(batch.pk), "default", "default")
    link = batch.jobs.get()
    link.pk, link.lane, link.status = None, 1, LinkStatus.RUNNING
    link.claimed_by, link.lease_until = "dead", timezone.now()
    link.save()

    changes = ledger.rescue_ticket("default", batch.pk, "dead", is_dead=True)

    batch.refresh_from_db()
    assert (batch.outcome, batch.total_jobs, batch.pending_jobs) == ("succeeded", 1, 0)
    assert [change.lost for change in changes] == [0]


def insert_callback(batch: JobBatch) -> None:
    """Put the call of a job beside it, as a `then` that is due."""
    job = batch.jobs.jobs_only().get()
    batch.jobs.create(role=Role.THEN, run=1, position=7, queue=job.queue, payload=job.payload)


def test_a_callback_inserted_by_hand_is_rejected(event_log: EventLog) -> None:
    batch = dispatched(
        recording(event_log, "once").finally_(jobs.record_call, event_log.path("calls"), "finally"),
        insert_callback,
    )

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert failures(batch) == [payload_error()]
    assert (event_log.ran(), event_log.calls) == (["once"], ["finally succeeded"])


@pytest.mark.usefixtures("redis_server")
def test_a_callback_in_a_batch_that_has_none_is_left_and_asks_for_no_ticket(
    event_log: EventLog,
) -> None:
    batch = recording(event_log, "once").dispatch()
    insert_callback(batch)
    queue = django_rq.get_queue("default")

    queue.empty()
    work(str(batch.pk), "default", "default")

    assert [str(link.status) for link in batch.jobs.order_by("role")] == ["succeeded", "pending"]
    assert event_log.ran() == ["once"]
    assert len(queue) == 0


# Options, which are not signed


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"timeout": "soon"}, "timeout='soon': pass whole seconds above 0 (up to ten years), a"
         " timedelta, or -1 for no limit."),
        ({"retry": "x", "retry_interval": None}, "retry='x': pass the number of further attempts,"
         " from 0 to 1,000,000."),
        ({"retry": 3, "retry_interval": 5.5}, "retry_interval=5.5: pass whole seconds from 0 on (up"
         " to ten years), a timedelta, or a list of them."),
        ([1], "'list' object is not a mapping"),
    ],
)  # fmt: skip
def test_options_that_no_dispatch_would_have_stored_fail_their_job(
    event_log: EventLog, options: object, why: str
) -> None:
    batch = dispatched(
        recording(event_log, "bad", "good").allow_failures(),
        lambda batch: batch.jobs.filter(lane=0).update(options=options),
    )

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert [(message, attempts) for _, message, attempts in failures(batch)] == [(why, 1)]
    assert event_log.ran() == ["good"]


def test_options_may_be_changed_by_hand(event_log: EventLog) -> None:
    batch = dispatched(
        bus.batch(bus.job(jobs.flaky, event_log.path("jobs"), 2)),
        lambda batch: batch.jobs.update(options={"retry": 2}),
    )

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["run", "run", "run"]


# Another SECRET_KEY


def rotate(settings: Settings) -> Callable[[JobBatch], None]:
    def to_another_key(batch: JobBatch) -> None:
        settings.SECRET_KEY = "current"

    settings.SECRET_KEY = "former"
    return to_another_key


def test_what_was_dispatched_under_a_former_key_runs(
    event_log: EventLog, settings: Settings
) -> None:
    settings.SECRET_KEY_FALLBACKS = ["former"]

    batch = dispatched(
        event_log.with_all_callbacks(recording(event_log, "run")).progress(
            jobs.record_progress, event_log.path("progress")
        ),
        rotate(settings),
    )

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["run"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert len(event_log.lines("progress")) == 1


def test_without_the_former_key_it_fails_and_runs_when_the_key_is_back(
    event_log: EventLog, settings: Settings
) -> None:
    batch = dispatched(
        recording(event_log, "run").finally_(jobs.record_call, event_log.path("calls"), "finally"),
        rotate(settings),
    )
    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert failures(batch) == [payload_error(), payload_error()]
    assert (event_log.ran(), event_log.calls) == ([], [])

    settings.SECRET_KEY_FALLBACKS = ["former"]
    batch.retry()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1, run=2)
    assert (event_log.ran(), event_log.calls) == (["run"], ["finally succeeded"])


# Functions that have moved


def moving(event_log: EventLog, job: str, callback: str) -> BatchBuilder:
    """A batch whose functions were at these paths when it was dispatched."""
    return (
        bus.batch(bus.job(job, event_log.path("jobs"), "found"))
        .then(callback, event_log.path("calls"), "then")
        .progress(callback, event_log.path("calls"), "progress")
    )


def test_jobs_and_callbacks_that_have_moved_are_found(
    event_log: EventLog, settings: Settings
) -> None:
    settings.JOBBATCH = {
        "MOVED": {
            "shop.jobs.note": "shop.tasks.note",
            "shop.tasks.note": "tests.jobs.record",
            "shop.jobs.record_call": "tests.jobs.record_call",
        }
    }

    batch = moving(event_log, "shop.jobs.note", "shop.jobs.record_call").on_queue("sync").dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["found"]
    assert event_log.calls == ["progress succeeded", "then succeeded"]
    assert [job.func for job in batch.jobs.jobs_only()] == ["shop.jobs.note"]


def test_what_has_moved_unsaid_fails_with_the_setting_and_runs_once_it_is_set(
    event_log: EventLog, settings: Settings
) -> None:
    batch = (
        moving(event_log, "tests.jobs.note", "shop.jobs.record_call").on_queue("sync").dispatch()
    )
    assert failures(batch) == [
        (
            FUNCTION_NOT_FOUND,
            "tests.jobs.note: tests.jobs has no 'note'. If the function is elsewhere now, add"
            ' "tests.jobs.note": "its.new.path" to the MOVED of JOBBATCH in the settings,'
            " restart the workers, and retry the job.",
            1,
        )
    ]

    settings.JOBBATCH = {"MOVED": {"tests.jobs.note": "tests.jobs.record"}}
    batch.retry()
    then_failed = End.of(batch)
    settings.JOBBATCH = {"MOVED": {"shop.jobs.record_call": "tests.jobs.record_call"}}
    batch.retry(batch.jobs.callbacks())

    assert then_failed == End(outcome="succeeded", total=1, succeeded=1, run=2)
    assert failures(batch)[1:] == [
        (
            FUNCTION_NOT_FOUND,
            "shop.jobs.record_call: there is no module 'shop'. Is the code that dispatched it deployed"
            " here? If the function is elsewhere now, add"
            ' "shop.jobs.record_call": "its.new.path" to the MOVED of JOBBATCH in the settings,'
            " restart the workers, and retry the job.",
            1,
        )
    ]
    assert event_log.ran() == ["found"]
    assert event_log.calls == ["then succeeded"]


def test_a_move_to_nowhere_names_both_paths(event_log: EventLog, settings: Settings) -> None:
    settings.JOBBATCH = {"MOVED": {"shop.jobs.note": "tests.jobs.note"}}

    batch = bus.batch(bus.job("shop.jobs.note")).on_queue("sync").dispatch()

    assert failures(batch) == [
        (
            FUNCTION_NOT_FOUND,
            "shop.jobs.note has moved to tests.jobs.note: tests.jobs has no 'note'. If the"
            ' function is elsewhere now, add "shop.jobs.note": "its.new.path" to the MOVED of'
            " JOBBATCH in the settings, restart the workers, and retry the job.",
            1,
        )
    ]
