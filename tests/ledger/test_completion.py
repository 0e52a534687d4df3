"""A batch is at rest when nothing of it is left to do, and a retry disturbs it."""

from __future__ import annotations

import pytest

from django_jobbatch import bus, ledger
from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.states import Role
from tests import jobs
from tests.factories import FailedJobFactory, JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    callback_rows,
    cancel,
    claim,
    claim_callback,
    claimant,
    fail,
    failure,
    read,
    reopen,
    report_end,
    run_callbacks,
    start_child,
    state,
    store_tree,
    succeed,
    success,
)

pytestmark = pytest.mark.django_db


def is_at_rest(batch: JobBatch) -> bool:
    return read(batch).at_rest


def test_a_batch_without_callbacks_is_at_rest_when_it_finishes() -> None:
    batch = JobBatchFactory.create(jobs=2)
    links = claim(batch)

    before = [is_at_rest(batch), succeed(batch, links[:1]), is_at_rest(batch)]
    succeed(batch, links[1:])

    assert (before[0], before[2], is_at_rest(batch)) == (False, False, True)


def test_a_batch_with_callbacks_is_at_rest_after_the_last_of_them() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    seen = []

    while link := ledger.claim_callback(claimant(batch)):
        seen.append(is_at_rest(batch))
        ledger.settle_callback(ALIAS, success(link))

    assert (seen, is_at_rest(batch)) == ([False, False], True)


def test_callbacks_that_are_not_called_are_not_waited_for() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.CATCH, Role.EACH_FAILURE])

    succeed(batch, claim(batch))

    assert is_at_rest(batch)


def test_a_batch_is_not_at_rest_before_all_its_failures_are_reported() -> None:
    batch = JobBatchFactory.create(jobs=1, allow_failures=True, roles=[Role.EACH_FAILURE])
    fail(batch, claim(batch))

    finished = is_at_rest(batch)
    run_callbacks(batch)

    assert (finished, is_at_rest(batch)) == (False, True)


def test_a_child_batch_is_at_rest_when_its_stand_in_is_settled() -> None:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    child = start_child(root)
    succeed(child, claim(child))

    finished = is_at_rest(child)
    report_end(child)

    assert (finished, is_at_rest(child), is_at_rest(root)) == (False, True, False)


def test_a_child_batch_is_at_rest_once_its_failures_are_reported() -> None:
    root = store_tree(bus.chain(bus.batch([ADD]).each_failure(jobs.fail_callback), ADD))
    child = start_child(root)
    fail(child, claim(child))
    report_end(child)

    was_at_rest = is_at_rest(child)
    run_callbacks(child)
    report_end(child)

    assert (was_at_rest, is_at_rest(child)) == (False, True)


def test_a_child_batch_without_a_waiting_parent_is_at_rest_when_it_settles() -> None:
    root = store_tree(bus.chain(ADD, bus.batch([ADD])))
    (child,) = root.children
    cancel(root)
    ledger.stop_children(ALIAS, [child.pk])
    list(ledger.sweep(ALIAS, child.pk))

    assert report_end(child) is None
    assert is_at_rest(child)


def test_a_retry_disturbs_a_batch() -> None:
    batch = JobBatchFactory.create(jobs=1)
    fail(batch, claim(batch))

    finished = is_at_rest(batch)
    reopen(batch)

    assert (finished, is_at_rest(batch)) == (True, False)


def test_a_callback_that_is_called_again_disturbs_a_batch() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    succeed(batch, claim(batch))
    link = claim_callback(batch)
    ledger.settle_callback(ALIAS, failure(link))

    finished = is_at_rest(batch)
    ledger.reopen_callbacks(ALIAS, batch.pk, [link.pk])
    again = is_at_rest(batch)
    run_callbacks(batch)

    assert (finished, again, is_at_rest(batch)) == (True, False, True)


# Missing schedules


def test_a_missed_finish_is_repaired_with_its_callbacks() -> None:
    batch = JobBatchFactory.create(jobs=["succeeded"], running=True, roles=[Role.FINALLY])

    change = ledger.repair(ALIAS, batch.pk)

    assert (state(batch), change.finished) == (("finished", "succeeded", 1), True)
    assert callback_rows(batch) == [(1, "finally", "pending")]


def test_an_unscheduled_each_failure_is_scheduled_by_a_repair() -> None:
    batch = JobBatchFactory.create(finished=True, roles=[Role.EACH_FAILURE])
    FailedJobFactory.create(job__batch=batch, batch=batch)

    change = ledger.repair(ALIAS, batch.pk)

    assert change.due == {"default": 1}
    assert run_callbacks(batch) == [("each_failure", 1)]
    assert (FailedJob.objects.unreported().count(), is_at_rest(batch)) == (0, True)


def test_a_repair_of_a_correct_batch_has_no_effect() -> None:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.CATCH, Role.FINALLY])

    change = ledger.repair(ALIAS, batch.pk)

    assert (change.due, change.finished, callback_rows(batch)) == ({}, False, [])
    assert ledger.repair(ALIAS, JobBatchFactory.build().pk).batch is None
