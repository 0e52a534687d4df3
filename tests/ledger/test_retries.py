"""A retry brings links back, opens a finished batch for its next run, and never finishes it early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import connection

from django_jobbatch import ledger
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.pacing import TimeBudget
from django_jobbatch.states import LinkStatus, Role
from tests.databases import NEGATIVE_COUNTER_ERROR, needs_postgresql
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    FAILED,
    NOON,
    PENDING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    WAITING,
    callback_rows,
    claim,
    claim_callback,
    claimant,
    counters,
    fail,
    failure,
    pks,
    read,
    reopen,
    run_callbacks,
    settle,
    state,
    statuses,
    succeed,
    success,
    sweep,
)

pytestmark = pytest.mark.django_db

MIXED = [SUCCEEDED, FAILED, CANCELLED, SKIPPED, FAILED]


def failed(statuses: list[LinkStatus], **named: Any) -> JobBatch:
    return JobBatchFactory.create(jobs=statuses, failed=True, **named)


def settled(changes: list[ledger.Change]) -> list[int]:
    return [pk for change in changes for pk in change.reset]


def sizes(changes: Iterable[ledger.Change]) -> list[int]:
    return [change.reset_count for change in changes]


# All


def test_a_retry_opens_the_next_run_with_all_that_did_not_succeed() -> None:
    batch = failed(MIXED, unique_key=None)
    stored = batch.options | {"unique": "nightly"}
    JobBatch.objects.update(options=stored, finished_at=NOON, version=7)

    (change,) = reopen(batch)

    row = read(batch)
    assert statuses(batch) == [SUCCEEDED, PENDING, PENDING, PENDING, PENDING]
    assert counters(batch) == {"total": 5, "pending": 4, "succeeded": 1}
    assert state(batch) == ("running", "", 2)
    assert (row.finished_at, row.unique_key, row.version) == (None, "nightly", 8)
    assert (change.reset_count, change.rerun_jobs) == (4, 4)
    assert (change.due, change.finished) == ({"default": 4}, False)


def test_a_reset_link_has_only_the_fence_of_its_last_run() -> None:
    fresh = BatchedJobFactory.build(batch=JobBatchFactory.build())
    names = [
        "attempts",
        "worker_losses",
        "available_at",
        "started_at",
        "ended_at",
        "result",
        "claimed_by",
    ]
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=NOON)
    fail(batch, claim(batch))
    BatchedJob.objects.update(worker_losses=2, result="1")

    reopen(batch)

    link = BatchedJob.objects.get()
    assert {name: getattr(link, name) for name in names} == {
        name: getattr(fresh, name) for name in names
    }
    assert (link.fence, link.lease_until) == (1, None)
    assert [link.fence for link in claim(batch)] == [2]


def test_failures_that_are_retried_are_marked() -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=True)
    fail(batch, claim(batch))
    one, two = pks(batch)

    reopen(batch, [one])

    unmarked = FailedJob.objects.filter(retried_at=None)
    assert list(unmarked.values_list("job_id", flat=True)) == [two]


def test_a_failure_that_was_retried_before_keeps_its_time() -> None:
    batch = JobBatchFactory.create(jobs=1)
    fail(batch, claim(batch))
    FailedJob.objects.update(retried_at=NOON)
    reopen(batch)
    fail(batch, claim(batch))

    reopen(batch)

    first, second = FailedJob.objects.oldest_first()
    assert first.retried_at == NOON
    assert second.retried_at is not None
    assert second.retried_at > NOON


def test_an_outcome_of_the_run_before_comes_too_late() -> None:
    batch = JobBatchFactory.create(jobs=1)
    (old,) = claim(batch)
    fail(batch, [old])
    reopen(batch)
    claim(batch)

    assert settle(batch, success(old)).late == 1
    assert (statuses(batch), state(batch)) == ([RUNNING], ("running", "", 2))


def test_a_running_batch_takes_its_failures_back_in_the_same_run() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True, allow_failures=True, roles=[Role.CATCH])
    (link,) = claim(batch, 1)
    fail(batch, [link])

    reopen(batch)

    assert (statuses(batch), state(batch)) == ([PENDING, PENDING], ("running", "", 1))
    fail(batch, claim(batch, 1))
    assert [role for _, role, _ in callback_rows(batch)] == ["catch"]


@pytest.mark.parametrize("jobs", [None, [], [0]], ids=["all", "none", "unknown"])
@pytest.mark.parametrize("trait", ["running", "finished"])
def test_with_nothing_to_retry_nothing_changes(trait: str, jobs: list[int] | None) -> None:
    batch = JobBatchFactory.create(jobs=[SUCCEEDED], **{trait: True}, version=7)
    before = JobBatch.objects.values().get()

    assert settled(reopen(batch, jobs)) == []
    assert JobBatch.objects.values().get() == before


def test_a_deleted_batch_is_not_reopened() -> None:
    batch = failed([FAILED])
    pk = pks(batch)
    ledger.delete_batch(ALIAS, batch.pk)

    assert settled(reopen(batch) + reopen(batch, pk)) == []


# Some


def test_the_chosen_failures_of_a_batch_that_allows_them_are_reset_alone() -> None:
    batch = failed(MIXED, allow_failures=True)
    chosen = pks(batch)[1]

    changes = reopen(batch, [chosen, pks(batch)[0], pks(batch)[2]])

    assert settled(changes) == [chosen]
    assert statuses(batch) == [SUCCEEDED, PENDING, CANCELLED, SKIPPED, FAILED]
    assert state(batch) == ("running", "", 2)


def test_a_strict_batch_resets_only_the_chosen_jobs_while_a_failure_remains() -> None:
    batch = failed(MIXED)

    changes = reopen(batch, pks(batch)[1:2])

    assert settled(changes) == pks(batch)[1:2]
    assert statuses(batch) == [SUCCEEDED, PENDING, CANCELLED, SKIPPED, FAILED]


def test_the_last_failure_of_a_strict_batch_is_reset_with_the_cancelled_jobs() -> None:
    batch = failed(MIXED)
    _, one, _cancelled, _skipped, two = pks(batch)

    changes = reopen(batch, [one]) + reopen(batch, [two])

    assert sizes(changes) == [1, 1, 2]
    assert [change.rerun_jobs for change in changes] == [1, 3, 0]
    assert settled(changes) == [one, two]
    assert statuses(batch) == [SUCCEEDED, PENDING, PENDING, PENDING, PENDING]
    assert state(batch) == ("running", "", 2)


def test_what_follows_the_chosen_belongs_to_the_same_run() -> None:
    batch = failed([FAILED, CANCELLED], roles=[Role.FINALLY])
    changes = ledger.reopen(ALIAS, batch.pk, pks(batch)[:1])
    next(changes)

    between = succeed(batch, claim(batch))
    list(changes)

    assert not between.finished
    assert (statuses(batch), state(batch)) == ([SUCCEEDED, PENDING], ("running", "", 2))
    assert succeed(batch, claim(batch)).finished
    assert callback_rows(batch) == [(2, "finally", PENDING)]


def test_links_of_another_batch_cannot_be_chosen() -> None:
    batch, other = failed([FAILED]), failed([FAILED])

    assert settled(reopen(batch, pks(other))) == []
    assert statuses(other) == [FAILED]


# Cancelled by a person


@pytest.mark.parametrize("chosen", [False, True], ids=["all", "chosen"])
def test_a_cancelled_batch_is_not_reopened_by_a_retry_of_its_child(
    chosen: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    batch = JobBatchFactory.create(jobs=[FAILED, CANCELLED], cancelled=True)

    with pytest.raises(BatchCancelled) as caught:
        reopen(batch, pks(batch) if chosen else None)

    assert str(caught.value) == (
        f"Batch {batch.pk} was cancelled; retry(include_cancelled=True) runs its cancelled jobs"
        " again."
    )
    assert (statuses(batch), read(batch).version) == ([FAILED, CANCELLED], 0)


def test_a_cancelled_batch_is_reopened_on_request() -> None:
    batch = JobBatchFactory.create(jobs=2)
    ledger.cancel(ALIAS, batch.pk, reason="enough", by="ann")
    sweep(batch)

    reopen(batch, include_cancelled=True)

    row = read(batch)
    assert (statuses(batch), state(batch)) == ([PENDING, PENDING], ("running", "", 2))
    assert (row.cancelled_at, row.cancel_reason, row.cancelled_by) == (None, "", "")
    succeed(batch, claim(batch))
    assert state(batch) == ("finished", "succeeded", 2)


def test_chosen_jobs_of_a_cancelled_batch_are_reset_alone_if_it_allows_failures() -> None:
    batch = JobBatchFactory.create(
        jobs=[FAILED, CANCELLED, CANCELLED], cancelled=True, allow_failures=True
    )

    changes = reopen(batch, pks(batch)[1:2], include_cancelled=True)

    assert settled(changes) == pks(batch)[1:2]
    assert statuses(batch) == [FAILED, PENDING, CANCELLED]


# Busy


@pytest.mark.parametrize("chosen", [False, True], ids=["all", "chosen"])
def test_a_batch_that_is_stopping_is_busy(
    chosen: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    batch = JobBatchFactory.create(jobs=2)
    one, _two = claim(batch)
    fail(batch, [one])
    version = read(batch).version

    with pytest.raises(BatchBusy) as caught:
        reopen(batch, [one.pk] if chosen else None)

    assert str(caught.value) == (f"Batch {batch.pk} is still stopping; wait until it has finished.")
    assert (statuses(batch), read(batch).version) == ([FAILED, RUNNING], version)


def test_a_batch_whose_key_another_one_has_is_busy() -> None:
    batch = JobBatchFactory.create(jobs=1, unique_key="nightly")
    fail(batch, claim(batch))
    JobBatchFactory.create(unique_key="nightly")
    before = read(batch).version

    with pytest.raises(BatchBusy) as caught:
        reopen(batch)

    assert str(caught.value) == ("Another unfinished batch has the key 'nightly'; retry after it.")
    assert (statuses(batch), state(batch)) == ([FAILED], ("finished", "failed", 1))
    assert read(batch).version == before


def test_another_database_error_is_not_taken_for_a_duplicate_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = failed([FAILED, FAILED])
    JobBatch.objects.update(failed_jobs=1)

    with pytest.raises(NEGATIVE_COUNTER_ERROR):
        reopen(batch)


# Pages


@pytest.mark.usefixtures("small_pages")
def test_a_retry_resets_chunk_by_chunk_in_one_run() -> None:
    batch = failed([FAILED] * 5)

    changes = reopen(batch)

    assert sizes(changes) == [2, 2, 1]
    assert (statuses(batch), state(batch)) == ([PENDING] * 5, ("running", "", 2))
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_a_retry_of_whole_chunks_ends_with_the_last_one() -> None:
    batch = failed([FAILED] * 4)

    assert sizes(reopen(batch)) == [2, 2]
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_a_continued_retry_is_not_stalled() -> None:
    batch = failed([FAILED] * 5)
    retry = ledger.reopen(ALIAS, batch.pk)
    next(retry)
    before = read(batch)
    before.retry_cursor = {**(before.retry_cursor or {}), "moved_at": "2026-01-01T00:00:00+00:00"}

    # Its row, as it is once it is locked, says otherwise than what was read.
    assert list(ledger.continue_reopen(ALIAS, before, after=60)) == []
    assert sizes(retry) == [2, 1]


@pytest.mark.usefixtures("small_pages")
def test_a_batch_does_not_finish_between_two_pages() -> None:
    batch = failed([FAILED] * 4, roles=[Role.FINALLY])
    changes = ledger.reopen(ALIAS, batch.pk)
    next(changes)

    between = succeed(batch, claim(batch))
    remaining = list(changes)

    assert (between.finished, [change.finished for change in remaining]) == (False, [False])
    assert succeed(batch, claim(batch)).finished
    assert callback_rows(batch) == [(2, "finally", PENDING)]
    assert counters(batch) == {"total": 4, "succeeded": 4}


@pytest.mark.usefixtures("small_pages")
def test_the_last_chunk_finishes_a_batch_whose_links_were_faster() -> None:
    batch = failed([FAILED] * 3, roles=[Role.FINALLY], allow_failures=True)
    changes = ledger.reopen(ALIAS, batch.pk)
    next(changes)
    assert not succeed(batch, claim(batch)).finished
    # The last failed job is gone, as after a retry of its own that has succeeded.
    BatchedJob.objects.filter(batch=batch, status=FAILED).update(status=SUCCEEDED)

    assert [change.finished for change in changes] == [True]
    assert callback_rows(batch) == [(2, "finally", PENDING)]


@pytest.mark.usefixtures("small_pages")
def test_the_next_retry_continues_an_interrupted_one() -> None:
    batch = failed([FAILED] * 5, roles=[Role.FINALLY], allow_failures=True)
    next(ledger.reopen(ALIAS, batch.pk))
    first, second = claim(batch)
    settle(batch, success(first), failure(second))
    assert state(batch) == ("running", "", 2)

    reopen(batch)

    assert statuses(batch) == [SUCCEEDED, FAILED, PENDING, PENDING, PENDING]
    assert state(batch) == ("running", "", 2)
    assert succeed(batch, claim(batch)).finished


@pytest.mark.usefixtures("small_pages")
def test_a_retry_of_chosen_jobs_continues_an_interrupted_retry() -> None:
    batch = failed([FAILED] * 5, allow_failures=True)
    next(ledger.reopen(ALIAS, batch.pk))

    reopen(batch, pks(batch)[-1:])

    assert (statuses(batch), state(batch)) == ([PENDING] * 5, ("running", "", 2))
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_chosen_jobs_are_reset_chunk_by_chunk_in_one_run() -> None:
    batch = failed([FAILED] * 6, roles=[Role.FINALLY], allow_failures=True)
    changes = ledger.reopen(ALIAS, batch.pk, pks(batch)[:5])
    next(changes)

    between = succeed(batch, claim(batch))
    remaining = list(changes)

    assert (between.finished, settled(remaining)) == (False, pks(batch)[2:5])
    assert counters(batch) == {"total": 6, "pending": 3, "succeeded": 2, "failed": 1}
    assert read(batch).retry_cursor is None
    assert succeed(batch, claim(batch)).finished
    assert state(batch) == ("finished", "partial", 2)
    assert callback_rows(batch) == [(2, "finally", PENDING)]


@pytest.mark.usefixtures("small_pages")
def test_chosen_jobs_reset_between_two_chunks_of_others_finish_nothing() -> None:
    batch = failed([FAILED] * 6, allow_failures=True)
    changes = ledger.reopen(ALIAS, batch.pk, pks(batch)[:4])
    next(changes)

    between = reopen(batch, pks(batch)[5:])
    ran = succeed(batch, claim(batch))
    remaining = list(changes)

    assert (settled(between), ran.finished) == (pks(batch)[5:], False)
    assert settled(remaining) == pks(batch)[2:4]
    assert counters(batch) == {"total": 6, "pending": 2, "succeeded": 3, "failed": 1}
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_the_remaining_links_of_a_strict_batch_follow_the_last_chunk_of_chosen_jobs() -> None:
    batch = failed([FAILED, CANCELLED, FAILED, FAILED, SKIPPED])

    changes = reopen(batch, batch.failed_job_ids)

    assert sizes(changes) == [2, 1, 2]
    assert sum(change.rerun_jobs for change in changes) == 5
    assert (statuses(batch), state(batch)) == ([PENDING] * 5, ("running", "", 2))
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("chosen", [[1, 4], [4], []], ids=["first", "last", "none"])
def test_chunks_of_chosen_jobs_without_a_failure_are_passed_over(
    chosen: list[int],
) -> None:
    batch = failed([FAILED if number in chosen else SUCCEEDED for number in range(6)])

    changes = reopen(batch, pks(batch))

    assert settled(changes) == [pks(batch)[number] for number in chosen]
    assert read(batch).retry_cursor is None
    assert state(batch) == (("running", "", 2) if chosen else ("finished", "failed", 1))


@pytest.mark.usefixtures("small_pages")
def test_an_interrupted_retry_of_chosen_jobs_lets_the_batch_finish() -> None:
    batch = failed([FAILED] * 5, roles=[Role.FINALLY], allow_failures=True)
    next(ledger.reopen(ALIAS, batch.pk, pks(batch)[:4]))
    assert not succeed(batch, claim(batch)).finished

    (change,) = ledger.continue_reopen(ALIAS, read(batch), after=0)

    assert change.finished
    assert state(batch) == ("finished", "partial", 2)
    assert counters(batch) == {"total": 5, "succeeded": 2, "failed": 3}
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_a_retry_of_chosen_jobs_stops_where_the_batch_was_cancelled() -> None:
    batch = failed([FAILED] * 5)
    changes = ledger.reopen(ALIAS, batch.pk, pks(batch)[:4])
    next(changes)
    ledger.cancel(ALIAS, batch.pk)

    assert settled(list(changes)) == []
    sweep(batch)
    assert statuses(batch) == [CANCELLED, CANCELLED, FAILED, FAILED, FAILED]


@pytest.mark.usefixtures("small_pages")
def test_a_retry_stops_where_the_batch_was_cancelled() -> None:
    batch = failed([FAILED] * 5)
    changes = ledger.reopen(ALIAS, batch.pk)
    next(changes)
    ledger.cancel(ALIAS, batch.pk)

    assert settled(list(changes)) == []
    sweep(batch)
    assert statuses(batch) == [CANCELLED, CANCELLED, FAILED, FAILED, FAILED]
    assert state(batch) == ("finished", "cancelled", 2)


@pytest.mark.usefixtures("small_pages")
def test_a_retry_stops_where_a_failure_has_stopped_the_batch() -> None:
    batch = failed([FAILED] * 3)
    changes = ledger.reopen(ALIAS, batch.pk)
    next(changes)
    one, two = claim(batch)
    settle(batch, failure(one), success(two))

    assert settled(list(changes)) == []
    assert (statuses(batch), state(batch)) == (
        [FAILED, SUCCEEDED, FAILED],
        ("finished", "failed", 2),
    )


# Ranges


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("include_cancelled", [False, True])
def test_a_flat_batch_is_reset_one_status_and_queue_after_another(
    *, include_cancelled: bool
) -> None:
    batch = failed(MIXED * 3, allow_failures=True)
    for number, pk in enumerate(pks(batch)):
        BatchedJob.objects.filter(pk=pk).update(queue="abc"[number % 3])

    changes = reopen(batch, include_cancelled=include_cancelled)

    count = 12 if include_cancelled else 9
    due: Counter[str] = Counter()
    for change in changes:
        due.update(change.due)
    queues = batch.jobs.pending().values_list("queue", flat=True)
    assert (sum(sizes(changes)), max(sizes(changes)), changes[0].rerun_jobs) == (count, 2, count)
    assert sum(change.rerun_jobs for change in changes) == count
    assert due == Counter(queues)
    cancelled = {} if include_cancelled else {"cancelled": 3}
    assert counters(batch) == {"total": 15, "pending": count, "succeeded": 3, **cancelled}
    assert read(batch).retry_cursor is None


@pytest.mark.usefixtures("small_pages")
def test_only_the_failures_of_the_jobs_in_a_range_are_marked() -> None:
    batch = JobBatchFactory.create(jobs=6, allow_failures=True, roles=[Role.CATCH])
    for number, pk in enumerate(pks(batch)):
        BatchedJob.objects.filter(pk=pk).update(queue="ab"[number % 2])
    for queue in "ab":
        fail(batch, claim(batch, queue=queue))
    (callback,) = batch.jobs.callbacks()
    BatchedJob.objects.filter(pk=callback.pk).update(queue="a")
    callback_link = ledger.claim_callback(claimant(batch, queue="a"))
    assert callback_link is not None
    ledger.settle_callback(ALIAS, failure(callback_link))
    retry = ledger.reopen(ALIAS, batch.pk)
    next(retry)
    fail(batch, claim(batch, queue="a"))  # both links of the first range fail again
    again = pks(batch)[0:4:2]

    list(retry)

    unmarked = FailedJob.objects.filter(retried_at=None, of_callback=False)
    assert sorted(unmarked.values_list("job_id", flat=True)) == again
    assert FailedJob.objects.filter(retried_at=None, of_callback=True).count() == 1
    assert counters(batch) == {"total": 6, "pending": 4, "failed": 2}


@needs_postgresql
def test_postgresql_marks_failures_in_their_pages_and_writes_no_index() -> None:
    batch = JobBatchFactory.create(jobs=500, allow_failures=True)
    fail(batch, claim(batch, 500))
    before = updated_failures()

    reopen(batch)

    updated, in_page = (
        after - first for first, after in zip(before, updated_failures(), strict=True)
    )
    assert updated == 500
    assert in_page > 450  # the last rows of a page may have grown too large for it


def updated_failures() -> tuple[int, int]:
    """The failures that this transaction has updated, and those of them that kept their page."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_updated(c), pg_stat_get_xact_tuples_hot_updated(c)"
            " FROM (SELECT %s::regclass) AS tables (c)",
            [FailedJob._meta.db_table],
        )
        updated, in_page = cursor.fetchone()
    return updated, in_page


@pytest.mark.usefixtures("small_pages")
def test_a_batch_that_gets_lanes_between_two_chunks_is_reset_completely() -> None:
    batch = failed([FAILED] * 5, allow_failures=True)
    retry = ledger.reopen(ALIAS, batch.pk)
    next(retry)
    JobBatch.objects.filter(pk=batch.pk).update(has_lanes=True)

    remaining = list(retry)

    assert sum(sizes(remaining)) == 3
    assert (statuses(batch), read(batch).retry_cursor) == ([PENDING] * 5, None)


@pytest.mark.usefixtures("small_pages")
def test_a_retry_ends_when_its_time_is_over_and_another_process_continues_it() -> None:
    batch = failed([FAILED] * 7, allow_failures=True)

    in_place = list(ledger.reopen(ALIAS, batch.pk, budget=TimeBudget(0)))
    remaining = list(ledger.remaining_chunks(ALIAS, in_place[-1]))

    assert [change.rerun_jobs for change in in_place] == [7]
    assert (sizes(in_place), sizes(remaining)) == ([2], [2, 2, 1])
    assert not ledger.has_more_to_reset(read(batch))


@pytest.mark.usefixtures("small_pages")
def test_of_two_processes_that_continue_a_retry_one_stops() -> None:
    batch = failed([FAILED] * 7, allow_failures=True)
    (first,) = ledger.reopen(ALIAS, batch.pk, budget=TimeBudget(0))
    one, other = (ledger.remaining_chunks(ALIAS, first) for _ in range(2))

    next(one)
    stopped = list(other)
    remaining = list(one)

    assert [(change.batch, change.reset_count) for change in stopped] == [(None, 0)]
    assert sizes(remaining) == [2, 1]
    assert counters(batch) == {"total": 7, "pending": 7}


# Callbacks


def test_callbacks_fire_again_at_the_end_of_every_run() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.CATCH, Role.THEN, Role.FINALLY])
    fail(batch, claim(batch))
    first = run_callbacks(batch)
    reopen(batch)
    fail(batch, claim(batch))
    second = run_callbacks(batch)
    reopen(batch)
    succeed(batch, claim(batch))
    third = run_callbacks(batch)

    assert (first, second, third) == (
        [("catch", 1), ("finally", 1)],
        [("catch", 2), ("finally", 2)],
        [("then", 3), ("finally", 3)],
    )


def test_a_retry_while_callbacks_run_starts_after_them() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.CATCH, Role.FINALLY])
    fail(batch, claim(batch))
    reopen(batch)
    assert ledger.waits_for_previous_run(ALIAS, batch.pk, 2)
    assert claim(batch) == []

    assert run_callbacks(batch) == [("catch", 1), ("finally", 1)]
    assert [link.fence for link in claim(batch)] == [2]


def test_callbacks_of_an_earlier_run_that_run_again_come_first() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.CATCH, Role.FINALLY])
    fail(batch, claim(batch))
    broken = []
    while link := ledger.claim_callback(claimant(batch)):
        broken.append(link.pk)
        ledger.settle_callback(ALIAS, failure(link))
    reopen(batch)
    links = claim(batch)
    ledger.reopen_callbacks(ALIAS, batch.pk, broken)

    fail(batch, links)

    assert run_callbacks(batch) == [("catch", 1), ("finally", 1), ("catch", 2), ("finally", 2)]


def test_a_failed_callback_runs_again_alone() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    then = claim_callback(batch)
    ledger.settle_callback(ALIAS, failure(then))
    run_callbacks(batch)

    change = ledger.reopen_callbacks(ALIAS, batch.pk, [then.pk])

    assert (change.reset, change.due) == ((then.pk,), {"default": 1})
    assert callback_rows(batch) == [(1, "then", PENDING), (1, "finally", SUCCEEDED)]
    assert state(batch) == ("finished", "succeeded", 1)
    assert FailedJob.objects.filter(retried_at=None).count() == 0
    assert run_callbacks(batch) == [("then", 1)]


def test_only_failed_callbacks_run_again() -> None:
    batch = failed([FAILED], roles=[Role.THEN])
    values = {"batch": batch, "role": Role.THEN, "run": 1}
    callbacks = [
        BatchedJobFactory.create(status=status, **values)
        for status in [RUNNING, SUCCEEDED, WAITING]
    ]
    before = callback_rows(batch), statuses(batch), read(batch).version

    jobs = [*pks(batch), *(each.pk for each in callbacks)]
    change = ledger.reopen_callbacks(ALIAS, batch.pk, jobs)

    assert (change.reset, change.due) == ((), {})
    assert (callback_rows(batch), statuses(batch), read(batch).version) == before


def test_callbacks_that_run_again_do_so_one_after_another() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    broken = []
    while link := ledger.claim_callback(claimant(batch)):
        broken.append(link.pk)
        ledger.settle_callback(ALIAS, failure(link))

    change = ledger.reopen_callbacks(ALIAS, batch.pk, broken)

    assert (list(change.reset), change.due) == (broken, {"default": 1})
    assert [status for _, _, status in callback_rows(batch)] == [PENDING, WAITING, WAITING]
    assert run_callbacks(batch) == [("then", 1), ("then", 1), ("finally", 1)]


def test_a_callback_that_runs_again_waits_for_the_one_that_runs() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.CATCH, Role.FINALLY])
    fail(batch, claim(batch))
    catch = claim_callback(batch)
    ledger.settle_callback(ALIAS, failure(catch))
    running = claim_callback(batch)

    assert ledger.reopen_callbacks(ALIAS, batch.pk, [catch.pk]).due == {}
    assert callback_rows(batch) == [(1, "catch", WAITING), (1, "finally", RUNNING)]

    assert ledger.settle_callback(ALIAS, success(running)).due == {"default": 1}
    assert run_callbacks(batch) == [("catch", 1)]


def test_each_failure_runs_again_at_once() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.EACH_FAILURE])
    fail(batch, claim(batch))
    link = claim_callback(batch)
    reported = ledger.first_unreported(ALIAS, batch.pk)
    assert reported is not None
    ledger.mark_reported(ALIAS, reported, raised_in=link)
    ledger.settle_callback(ALIAS, failure(link))

    change = ledger.reopen_callbacks(ALIAS, batch.pk, [link.pk])

    assert change.due == {"default": 1}
    again = claim_callback(batch)
    assert (again.pk, again.failure) == (link.pk, reported)


def test_the_callbacks_of_a_deleted_batch_do_not_run_again() -> None:
    batch = failed([FAILED])
    ledger.delete_batch(ALIAS, batch.pk)

    assert ledger.reopen_callbacks(ALIAS, batch.pk, [1]).batch is None


def test_a_link_released_in_the_next_run_is_still_of_that_run() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    fail(batch, claim(batch))
    run_callbacks(batch)
    reopen(batch)
    (link,) = claim(batch)
    settle(batch, Settlement.released(link))

    succeed(batch, claim(batch))

    assert run_callbacks(batch) == [("finally", 2)]


def test_no_two_links_call_each_failure_at_once() -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=True, roles=[Role.EACH_FAILURE])
    links = claim(batch)
    fail(batch, links[:1])
    first = claim_callback(batch)
    ledger.mark_reported(ALIAS, batch.failures[0], raised_in=first)
    ledger.settle_callback(ALIAS, failure(first))
    fail(batch, links[1:])

    ledger.reopen_callbacks(ALIAS, batch.pk, [first.pk])
    before = [status for _, _, status in callback_rows(batch)]

    assert before == [WAITING, PENDING]
    assert run_callbacks(batch) == [("each_failure", 1), ("each_failure", 1)]
