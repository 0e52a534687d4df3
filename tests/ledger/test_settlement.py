"""Settling counts each link once, finishes a batch once, and schedules the callbacks that are due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from unittest import mock

import pytest
from django.db.models.functions import Length
from django.utils import timezone

from django_jobbatch import ledger
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import CALLBACKS, SETTLED, LinkStatus, Role
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.ledger.helpers import (
    ALIAS,
    BROKE,
    CANCELLED,
    FAILED,
    NOON,
    PENDING,
    RUNNING,
    SUCCEEDED,
    WAITING,
    callback_rows,
    claim,
    claim_callback,
    claimant,
    counters,
    fail,
    failure,
    failures,
    pks,
    read,
    report_failures,
    run_callbacks,
    settle,
    state,
    statuses,
    succeed,
    success,
    sweep,
)

pytestmark = pytest.mark.django_db

LONG = "x" * 2**20


# One link


def test_a_success_is_written_and_counted() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True)
    (link,) = claim(batch, 1)

    with mock.patch.object(timezone, "now", return_value=NOON):
        change = settle(batch, success(link, result="3"))

    written = {"status": SUCCEEDED, "attempts": 1, "ended_at": NOON, "lease_until": None}
    stored = BatchedJob.objects.get(pk=link.pk)
    assert {name: getattr(stored, name) for name in written} == written
    assert stored.return_value == 3
    assert counters(batch) == {"total": 2, "pending": 1, "succeeded": 1}
    assert (change.settled, change.late, change.finished, change.due) == ((link.pk,), 0, False, {})
    assert change.batch is not None
    assert (change.batch.pending_jobs, change.batch.version) == (1, 1)


def test_each_result_of_a_group_stays_with_its_link() -> None:
    batch = JobBatchFactory.create(jobs=3)
    one, two, three = claim(batch)

    settle(batch, success(three, "3"), success(one, "1"), success(two))

    results = BatchedJob.objects.order_by("pk").values_list("result", flat=True)
    assert list(results) == ["1", None, "3"]


def test_a_group_of_long_results_is_stored() -> None:
    # Longer together than one statement may be on MariaDB.
    batch = JobBatchFactory.create(jobs=18)

    settle(batch, *(success(link, LONG) for link in claim(batch)))

    stored = BatchedJob.objects.annotate(length=Length("result")).values_list("length", flat=True)
    assert list(stored) == [len(LONG)] * 18


def test_a_group_of_long_tracebacks_is_stored() -> None:
    batch = JobBatchFactory.create(jobs=18, allow_failures=True)
    broke = replace(BROKE, traceback=LONG)

    settle(batch, *(replace(failure(link), failure=broke) for link in claim(batch)))

    stored = FailedJob.objects.annotate(length=Length("traceback"))
    assert list(stored.values_list("length", flat=True)) == [len(LONG)] * 18


def test_a_failure_is_written_counted_and_stored() -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=True)
    (link,) = claim(batch, 1)

    with mock.patch.object(timezone, "now", return_value=NOON):
        change = settle(batch, failure(link))

    failed_job = FailedJob.objects.get()
    assert {
        field.attname: getattr(failed_job, field.attname) for field in FailedJob._meta.fields
    } == {
        "id": failed_job.pk,
        "batch_id": batch.pk,
        "job_id": link.pk,
        "of_callback": False,
        "payload": link.payload,
        "queue": "default",
        "exception_class": BROKE.exception_class,
        "message": BROKE.message,
        "traceback": BROKE.traceback,
        "attempts": 1,
        "failed_at": NOON,
        "sequence": 0,
        "reported_at": None,
        "retried_at": None,
    }
    assert counters(batch) == {"total": 2, "pending": 1, "failed": 1}
    assert (change.settled, change.stopping) == ((link.pk,), False)


def test_failures_of_one_group_keep_their_order() -> None:
    batch = JobBatchFactory.create(jobs=3, allow_failures=True)
    one, two, three = claim(batch)

    settle(batch, failure(two), success(one), failure(three))

    assert failures(batch) == [(two.pk, 1), (three.pk, 1)]


def test_an_attempt_that_is_not_the_last_makes_the_job_due_again() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (link,) = claim(batch)

    change = settle(batch, Settlement(link=link, status=PENDING))

    stored = BatchedJob.objects.get()
    assert (stored.status, stored.attempts, stored.ended_at) == (PENDING, 1, None)
    assert (change.settled, change.due, change.next_event_at) == ((), {"default": 1}, None)
    assert counters(batch) == {"total": 1, "pending": 1}


def test_an_attempt_that_is_to_wait_makes_the_batch_wake_at_the_earliest() -> None:
    batch = JobBatchFactory.create(jobs=3)
    one, two, three = claim(batch)
    soon, later = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)

    first = settle(batch, Settlement(link=one, status=PENDING, available_at=later))
    second = settle(batch, Settlement(link=two, status=PENDING, available_at=soon))
    third = settle(batch, Settlement(link=three, status=PENDING, available_at=later))

    assert [each.due for each in (first, second, third)] == [{}, {}, {}]
    assert [each.next_event_at for each in (first, second, third)] == [later, soon, None]
    assert read(batch).next_event_at == soon


def test_a_released_link_has_lost_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (link,) = claim(batch)

    change = settle(batch, Settlement.released(link))

    stored = BatchedJob.objects.get()
    assert (stored.status, stored.attempts, stored.lease_until) == (PENDING, 0, None)
    assert change.due == {"default": 1}


# Groups


def test_outcomes_of_all_kinds_settle_in_one_transaction() -> None:
    batch = JobBatchFactory.create(jobs=4, allow_failures=True)
    one, two, three, four = claim(batch)

    change = settle(
        batch,
        failure(one),
        Settlement.released(two),
        success(three),
        Settlement(link=four, status=PENDING),
    )

    assert statuses(batch) == [FAILED, PENDING, SUCCEEDED, PENDING]
    assert counters(batch) == {"total": 4, "pending": 2, "succeeded": 1, "failed": 1}
    assert (sorted(change.settled), change.due) == ([one.pk, three.pk], {"default": 2})


def test_a_group_of_different_fences_settles_as_one() -> None:
    batch = JobBatchFactory.create(jobs=2)
    settle(batch, *(Settlement.released(link) for link in claim(batch, 1)))

    change = succeed(batch, claim(batch))

    assert (change.late, change.finished, statuses(batch)) == (0, True, [SUCCEEDED, SUCCEEDED])


# Late reports


def test_an_outcome_that_was_settled_before_changes_nothing() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=CALLBACKS)
    (link,) = claim(batch, 1)
    succeed(batch, [link])
    before = counters(batch), statuses(batch), callback_rows(batch)

    again = [settle(batch, success(link)), settle(batch, failure(link))]

    assert [(each.late, each.settled, each.stopping, each.finished) for each in again] == [
        (1, (), False, False)
    ] * 2
    assert (counters(batch), statuses(batch), callback_rows(batch)) == before
    assert failures(batch) == []


def test_an_outcome_of_an_earlier_claim_changes_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=CALLBACKS)
    (lost,) = claim(batch, ticket="lost")
    settle(batch, Settlement.released(lost))
    (taken,) = claim(batch, ticket="other")

    late = settle(batch, failure(lost))

    assert (late.late, statuses(batch), failures(batch)) == (1, [RUNNING], [])
    assert succeed(batch, [taken]).finished


def test_a_late_outcome_of_the_same_ticket_changes_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (lost,) = claim(batch, ticket="mine")
    settle(batch, Settlement.released(lost))
    claim(batch, ticket="mine")

    assert settle(batch, success(lost)).late == 1
    assert statuses(batch) == [RUNNING]


def test_late_outcomes_do_not_hold_up_those_beside_them() -> None:
    batch = JobBatchFactory.create(jobs=3, allow_failures=True)
    one, two, three = claim(batch)
    succeed(batch, [one])

    change = settle(batch, failure(one), failure(two), success(three))

    assert (change.late, change.settled, change.finished) == (1, (two.pk, three.pk), True)
    assert counters(batch) == {"total": 3, "succeeded": 2, "failed": 1}
    assert failures(batch) == [(two.pk, 1)]


def test_a_link_that_comes_twice_in_a_group_counts_once() -> None:
    batch = JobBatchFactory.create(jobs=2)
    one, _two = claim(batch)

    settle(batch, success(one), success(one))

    assert counters(batch) == {"total": 2, "pending": 1, "succeeded": 1}


def test_an_outcome_of_a_deleted_batch_changes_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (link,) = claim(batch)
    ledger.delete_batch(ALIAS, batch.pk)

    change = settle(batch, success(link))

    assert (change.batch, change.late) == (None, 1)


# Repeated attempts whose write may have happened


TRIED: dict[str, Callable[[BatchedJob], Settlement]] = {
    "success": success,
    "failure": failure,
    "retry": lambda link: Settlement(link=link, status=PENDING),
    "released": Settlement.released,
    "lost": Settlement.lost,
}


@pytest.mark.parametrize("settled_as", TRIED.values(), ids=TRIED)
def test_an_outcome_that_was_tried_and_written_is_not_late(
    settled_as: Callable[[BatchedJob], Settlement],
) -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=True)
    links = claim(batch)
    outcome = settled_as(links[0])
    settle(batch, outcome)
    before = counters(batch), statuses(batch), failures(batch)

    change = settle(batch, replace(outcome, maybe_written=True))

    is_over = outcome.status in SETTLED
    assert (change.late, change.due) == (0, {"default": 1})
    assert change.settled == ((links[0].pk,) if is_over else ())
    assert (counters(batch), statuses(batch), failures(batch)) == before


def test_what_was_tried_and_written_is_acted_on_with_what_follows_from_it() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.FINALLY])
    links = claim(batch)
    fail(batch, links)

    change = settle(batch, *(replace(failure(link), maybe_written=True) for link in links))

    assert (change.late, change.finished, change.due) == (0, True, {"default": 1})
    assert (state(batch), callback_rows(batch)) == (
        ("finished", "failed", 1),
        [(1, "finally", PENDING)],
    )


@pytest.mark.parametrize(
    "tried",
    [
        success,
        failure,
        lambda link: Settlement(link=link, status=PENDING),
    ],
)
def test_an_outcome_tried_and_lost_in_between_is_late(
    tried: Callable[[BatchedJob], Settlement],
) -> None:
    batch = JobBatchFactory.create(jobs=1)
    (link,) = claim(batch)
    ledger.rescue_ticket(ALIAS, batch.pk, "one", is_dead=True)

    change = settle(batch, replace(tried(link), maybe_written=True))

    assert (change.late, change.settled, change.due) == (1, (), {})
    assert statuses(batch) == [PENDING]


def test_a_transaction_that_was_believed_to_be_lost_and_was_not_is_not_late() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (link,) = claim(batch)
    succeed(batch, [link])

    change = settle(batch, replace(Settlement.lost(link), maybe_written=True))

    assert (change.late, change.settled, change.finished) == (0, (link.pk,), True)
    assert counters(batch) == {"total": 1, "succeeded": 1}


# In a batch that is being stopped


@pytest.mark.parametrize(
    ("status", "attempts", "available_at"),
    [(PENDING, 0, None), (PENDING, 1, None), (PENDING, 1, NOON)],
    ids=["released", "retry", "retry later"],
)
def test_a_link_released_into_a_cancelled_batch_is_cancelled(
    status: LinkStatus, attempts: int, available_at: datetime | None
) -> None:
    batch = JobBatchFactory.create(jobs=2)
    one, _two = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    change = settle(
        batch, Settlement(link=one, status=status, attempts=attempts, available_at=available_at)
    )

    stored = BatchedJob.objects.get(pk=one.pk)
    assert (stored.status, stored.attempts, stored.available_at) == (CANCELLED, attempts, None)
    assert counters(batch) == {"total": 2, "pending": 1, "cancelled": 1}
    assert (change.settled, change.due, change.next_event_at) == ((one.pk,), {}, None)


def test_an_outcome_after_the_sweep_of_its_link_is_late_and_a_release_is_not() -> None:
    batch = JobBatchFactory.create(jobs=2)
    one, two = claim(batch)
    ledger.cancel(ALIAS, batch.pk)
    sweep(batch, running=True)

    change = settle(batch, Settlement.released(one), Settlement(link=two, status=PENDING))

    assert (change.late, change.settled) == (1, ())
    assert (counters(batch), statuses(batch)) == (
        {"total": 2, "cancelled": 2},
        [CANCELLED, CANCELLED],
    )


def test_running_jobs_of_a_cancelled_batch_settle_and_are_counted() -> None:
    batch = JobBatchFactory.create(jobs=3, roles=CALLBACKS)
    one, two, three = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    settle(batch, success(one), failure(two))
    last = settle(batch, Settlement(link=three, status=CANCELLED))

    assert last.finished
    assert counters(batch) == {"total": 3, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert state(batch) == ("finished", "cancelled", 1)


# A row that is not counted: it was doubled, for example


def with_doubled_row() -> tuple[JobBatch, BatchedJob, BatchedJob]:
    """A batch of one job, and two claimed rows."""
    batch = JobBatchFactory.create(jobs=1)
    link = batch.jobs.get()
    link.pk, link.lane = None, 1
    link.save()
    one, two = claim(batch)
    return batch, one, two


@pytest.mark.parametrize(
    ("release", "late"),
    [
        (Settlement.released, 0),
        (Settlement.lost, 1),
        (lambda link: Settlement(link=link, status=PENDING), 1),
    ],
    ids=["released", "lost", "retry"],
)
def test_a_doubled_row_that_is_released_changes_no_finished_batch(
    release: Callable[[BatchedJob], Settlement], late: int
) -> None:
    batch, one, two = with_doubled_row()
    succeed(batch, [one])

    change = settle(batch, release(two))

    assert (change.late, change.settled, change.due) == (late, (), {})
    assert counters(batch) == {"total": 1, "succeeded": 1}
    assert statuses(batch) == [SUCCEEDED, RUNNING]


def test_a_stopping_batch_cancels_as_many_released_rows_as_it_counts() -> None:
    batch, one, two = with_doubled_row()
    ledger.cancel(ALIAS, batch.pk)

    change = settle(batch, Settlement.released(one), Settlement.released(two))

    assert (change.settled, change.finished) == ((one.pk,), True)
    assert counters(batch) == {"total": 1, "cancelled": 1}
    assert statuses(batch) == [CANCELLED, RUNNING]


# The end


@pytest.mark.parametrize(
    ("allow_failures", "ends", "outcome"),
    [
        (False, [SUCCEEDED, SUCCEEDED], "succeeded"),
        (True, [SUCCEEDED, SUCCEEDED], "succeeded"),
        (False, [SUCCEEDED, FAILED], "failed"),
        (True, [SUCCEEDED, FAILED], "partial"),
        (True, [FAILED, FAILED], "partial"),
        (False, [FAILED, FAILED], "failed"),
        (False, [FAILED, CANCELLED], "failed"),
        (True, [SUCCEEDED, CANCELLED], "partial"),
    ],
    ids=str,
)
def test_the_outcome_follows_from_the_statuses(
    allow_failures: bool,  # noqa: FBT001 - a parameter of the test
    ends: Sequence[LinkStatus],
    outcome: str,
) -> None:
    batch = JobBatchFactory.create(jobs=len(ends), allow_failures=allow_failures, unique_key="key")
    settlements = [
        failure(link) if end == FAILED else Settlement(link=link, status=end)
        for link, end in zip(claim(batch), ends, strict=True)
    ]

    with mock.patch.object(timezone, "now", return_value=NOON):
        change = settle(batch, *settlements)

    assert (change.finished, change.stopping) == (True, False)
    assert state(batch) == ("finished", outcome, 1)
    row = read(batch)
    assert (row.finished_at, row.unique_key, row.next_event_at) == (NOON, None, None)
    assert row.progress == 100


@pytest.mark.parametrize("ending", ["succeeded", "partial", "failed", "cancelled"])
def test_a_cancel_comes_before_every_other_outcome(ending: str) -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=ending == "partial")
    one, two = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    settle(batch, success(one), success(two) if ending == "succeeded" else failure(two))

    assert state(batch) == ("finished", "cancelled", 1)


def test_only_the_transaction_that_settles_the_last_link_finishes() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.FINALLY])
    one, two = claim(batch)

    changes = [succeed(batch, [one]), succeed(batch, [two]), succeed(batch, [two])]

    assert [change.finished for change in changes] == [False, True, False]
    assert callback_rows(batch) == [(1, "finally", PENDING)]


# A failure


def test_the_first_failure_stops_a_strict_batch() -> None:
    batch = JobBatchFactory.create(jobs=4, roles=CALLBACKS, running=True)
    one, two = claim(batch, 2)

    first, second = fail(batch, [one]), fail(batch, [two])

    assert (first.stopping, second.stopping) == (True, False)
    assert state(batch) == ("stopping", "", 1)
    assert read(batch).cancelled_at is None
    assert counters(batch) == {"total": 4, "pending": 2, "failed": 2}
    assert [change.due for change in (first, second)] == [{"default": 2}, {}]
    assert callback_rows(batch) == [(1, "catch", PENDING), (1, "each_failure", PENDING)]


def test_a_failure_stops_no_batch_that_allows_it() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=CALLBACKS, running=True, allow_failures=True)

    change = fail(batch, claim(batch, 1))

    assert (change.stopping, state(batch)) == (False, ("running", "", 1))
    assert callback_rows(batch) == [(1, "catch", PENDING), (1, "each_failure", PENDING)]


def test_catch_is_called_with_the_first_failure() -> None:
    batch = JobBatchFactory.create(jobs=3, roles=[Role.CATCH, Role.CATCH], allow_failures=True)
    one, two, three = claim(batch)

    settle(batch, success(one), failure(two), failure(three))

    links = batch.jobs.filter(role=Role.CATCH).order_by("pk")
    assert [link.failure.job_id for link in links if link.failure] == [two.pk, two.pk]


# Callbacks


@pytest.mark.parametrize(
    ("allow_failures", "ends", "order"),
    [
        (False, [SUCCEEDED], ["then", "then", "finally"]),
        (True, [FAILED, SUCCEEDED], ["catch", "then", "then", "finally"]),
        (False, [FAILED, SUCCEEDED], ["catch", "finally"]),
    ],
    ids=["succeeded", "partial", "failed"],
)
def test_callbacks_run_one_after_another_in_their_order(
    allow_failures: bool,  # noqa: FBT001 - a parameter of the test
    ends: Sequence[LinkStatus],
    order: list[str],
) -> None:
    roles = [Role.FINALLY, Role.THEN, Role.CATCH, Role.THEN]
    batch = JobBatchFactory.create(jobs=len(ends), allow_failures=allow_failures, roles=roles)
    for link, end in zip(claim(batch), ends, strict=True):
        settle(batch, failure(link) if end == FAILED else success(link))

    assert callback_rows(batch) == [
        (1, order[0], PENDING),
        *((1, role, WAITING) for role in order[1:]),
    ]
    assert run_callbacks(batch) == [(role, 1) for role in order]
    assert [status for _, _, status in callback_rows(batch)] == [SUCCEEDED] * len(order)
    assert read(batch).is_settled


def test_only_finally_is_called_for_a_cancelled_batch() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.CATCH, Role.FINALLY])
    ledger.cancel(ALIAS, batch.pk)
    sweep(batch)

    assert run_callbacks(batch) == [("finally", 1)]


def test_no_two_callbacks_of_a_batch_are_due_at_once() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    finished = succeed(batch, claim(batch))
    then = claim_callback(batch)
    assert ledger.claim_callback(claimant(batch, "two")) is None

    released = ledger.settle_callback(ALIAS, success(then))

    assert (finished.due, released.due) == ({"default": 1}, {"default": 1})
    assert claim_callback(batch).role == "finally"


def test_callbacks_are_due_on_their_own_queue() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    JobBatch.objects.update(callbacks=[{**batch.callbacks[0], "queue": "slow"}])

    change = succeed(batch, claim(batch))

    assert change.due == {"slow": 1}


def test_a_failed_callback_is_stored_and_changes_nothing_else() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    then = claim_callback(batch)

    change = ledger.settle_callback(ALIAS, failure(then))

    assert (change.settled, change.due) == ((then.pk,), {"default": 1})
    assert callback_rows(batch) == [(1, "then", FAILED), (1, "finally", PENDING)]
    assert [(each.job_id, each.of_callback) for each in batch.failures] == [(then.pk, True)]
    assert state(batch) == ("finished", "succeeded", 1)
    assert counters(batch) == {"total": 1, "succeeded": 1}


def test_a_callback_that_is_tried_again_stays_before_the_next_one() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))

    change = ledger.settle_callback(ALIAS, Settlement(link=claim_callback(batch), status=PENDING))

    assert (change.settled, change.due) == ((), {"default": 1})
    assert callback_rows(batch) == [(1, "then", PENDING), (1, "finally", WAITING)]
    assert run_callbacks(batch) == [("then", 1), ("finally", 1)]


def test_a_callback_that_was_settled_before_releases_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    first = claim_callback(batch)
    ledger.settle_callback(ALIAS, success(first))

    again = ledger.settle_callback(ALIAS, failure(first))

    assert (again.late, again.settled, again.due) == (1, (), {})
    assert [status for _, _, status in callback_rows(batch)] == [SUCCEEDED, PENDING, WAITING]
    assert failures(batch) == []


def test_a_callback_of_a_deleted_batch_changes_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    succeed(batch, claim(batch))
    then = claim_callback(batch)
    ledger.delete_batch(ALIAS, batch.pk)

    change = ledger.settle_callback(ALIAS, success(then))

    assert (change.batch, change.late) == (None, 1)


# each_failure


def test_one_link_reports_all_failures_that_come_while_it_is_due() -> None:
    batch = JobBatchFactory.create(jobs=3, roles=[Role.EACH_FAILURE], allow_failures=True)
    dues = [fail(batch, [link]).due for link in claim(batch)]

    assert dues == [{"default": 1}, {}, {}]
    assert callback_rows(batch) == [(1, "each_failure", PENDING)]


def test_a_failure_that_came_while_the_link_settled_is_reported_by_another() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.EACH_FAILURE], allow_failures=True)
    one, two = claim(batch)
    fail(batch, [one])
    link = claim_callback(batch)
    report_failures(batch)
    fail(batch, [two])

    change = ledger.settle_callback(ALIAS, success(link))

    assert change.due == {"default": 1}
    assert callback_rows(batch) == [(1, "each_failure", SUCCEEDED), (1, "each_failure", PENDING)]
    report_failures(batch)
    assert ledger.settle_callback(ALIAS, success(claim_callback(batch))).due == {}


def test_a_failure_after_the_link_has_settled_schedules_another() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.EACH_FAILURE], allow_failures=True)
    one, two = claim(batch)
    fail(batch, [one])
    run_callbacks(batch)

    assert fail(batch, [two]).due == {"default": 1}
    assert callback_rows(batch) == [(1, "each_failure", SUCCEEDED), (1, "each_failure", PENDING)]


def test_finally_does_not_wait_for_each_failure() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.EACH_FAILURE, Role.FINALLY])
    fail(batch, claim(batch))
    assert claim_callback(batch).role == "each_failure"

    assert claim_callback(batch, "other").role == "finally"


def test_a_link_of_an_earlier_run_that_still_calls_each_failure_is_the_only_one() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.EACH_FAILURE])
    fail(batch, claim(batch))
    telling = claim_callback(batch)
    report_failures(batch)
    list(ledger.reopen(ALIAS, batch.pk))

    fail(batch, claim(batch))

    assert callback_rows(batch) == [(1, "each_failure", RUNNING)]
    ledger.settle_callback(ALIAS, success(telling))
    assert callback_rows(batch) == [(1, "each_failure", SUCCEEDED), (2, "each_failure", PENDING)]


def test_a_link_that_fails_for_good_stores_the_failure_it_reported() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.EACH_FAILURE], allow_failures=True)
    fail(batch, claim(batch))
    link = claim_callback(batch)
    reported = ledger.first_unreported(ALIAS, batch.pk)
    assert reported is not None
    ledger.mark_reported(ALIAS, reported, raised_in=link)

    change = ledger.settle_callback(ALIAS, failure(link))

    assert change.due == {"default": 1}
    assert callback_rows(batch) == [(1, "each_failure", FAILED), (1, "each_failure", PENDING)]
    assert BatchedJob.objects.get(pk=link.pk).failure == reported
    remaining = ledger.first_unreported(ALIAS, batch.pk)
    assert remaining is not None
    assert remaining.job_id == pks(batch)[1]


def test_a_link_that_lost_its_claim_remembers_nothing() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.EACH_FAILURE])
    fail(batch, claim(batch))
    link = claim_callback(batch)
    ledger.settle_callback(ALIAS, Settlement.released(link))
    reported = FailedJob.objects.get()

    ledger.mark_reported(ALIAS, reported, raised_in=link)

    assert BatchedJob.objects.get(pk=link.pk).failure_id is None


def test_failures_of_callbacks_are_not_reported() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.EACH_FAILURE])
    succeed(batch, claim(batch))

    ledger.settle_callback(ALIAS, failure(claim_callback(batch)))

    assert callback_rows(batch) == [(1, "then", FAILED)]
    assert ledger.first_unreported(ALIAS, batch.pk) is None


def test_the_jobs_of_the_next_run_become_due_with_the_last_callback_of_this_one() -> None:
    batch = JobBatchFactory.create(
        jobs=[FAILED, FAILED], failed=True, roles=[Role.THEN], queues=["default", "slow"], run=2
    )
    JobBatch.objects.update(status="running", outcome="")
    BatchedJob.objects.update(status=PENDING)
    JobBatch.objects.update(pending_jobs=2, failed_jobs=0)
    then = BatchedJobFactory.create(batch=batch, role=Role.THEN, run=1, status=PENDING)

    change = ledger.settle_callback(ALIAS, success(claim_callback(batch)))

    assert then.pk in change.settled
    assert change.due == {"default": 2}
