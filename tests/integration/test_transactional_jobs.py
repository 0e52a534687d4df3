"""Jobs with `transactional=True`: the transaction of a job and of its settlement."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from airports.models import CallbackCall
from django_jobbatch import bus
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.runner.transactional import execute_transactional
from django_jobbatch.states import LinkStatus
from tests import jobs
from tests import statements as expected
from tests.databases import statements_in
from tests.ledger.helpers import claim, settle, succeed
from tests.statements import verbs

transactional = pytest.mark.django_db(transaction=True)
with_redis = pytest.mark.usefixtures("redis_server")


def dispatched(*builders: bus.JobBuilder) -> JobBatch:
    return bus.batch(builders).options(transactional=True).dispatch()


@transactional
@with_redis
def test_no_savepoint_is_released_while_the_batch_row_is_locked() -> None:
    batch = dispatched(jobs.ADD, jobs.ADD)
    link, _ = claim(batch)
    policy = RunPolicy.of(link, batch)

    with CaptureQueriesContext(connection) as captured:
        change = execute_transactional(link, batch, policy)

    sent = [sql.split()[0] for sql in statements_in(captured)]
    assert sent[sent.index("UPDATE") :] == [*verbs(expected.SETTLEMENT), "COMMIT"]
    assert isinstance(change, Change)
    assert change.settled == (link.pk,)


@transactional
@with_redis
@pytest.mark.parametrize("is_claimed_again", [False, True])
def test_a_late_success_is_counted_and_what_the_job_wrote_is_rolled_back(
    *,
    is_claimed_again: bool,
) -> None:
    batch = dispatched(bus.job(jobs.write_added_row, "late"))
    (link,) = claim(batch, ticket="late")
    settle(batch, Settlement.released(link))
    if is_claimed_again:
        claim(batch, ticket="other")
    status = batch.jobs.get().status

    outcome = execute_transactional(link, batch, RunPolicy.of(link, batch))

    assert isinstance(outcome, Settlement)
    assert outcome.status == LinkStatus.PENDING
    assert not CallbackCall.objects.exists()
    assert settle(batch, outcome).late == 1
    batch.refresh_from_db()
    assert (batch.late_outcomes, batch.pending_jobs) == (1, 1)
    assert (batch.jobs.get().status, batch.jobs.get().attempts) == (status, 0)


@transactional
@with_redis
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_job_that_is_not_counted_is_late_and_ends_no_attempt(*, is_finished: bool) -> None:
    batch = dispatched(bus.job(jobs.write_added_row, "not counted"))
    double = batch.jobs.get()
    double.pk, double.lane = None, 1
    double.save()
    one, two = claim(batch)
    if is_finished:
        succeed(batch, [one])
    else:
        JobBatch.objects.filter(pk=batch.pk).update(pending_jobs=0)

    outcome = execute_transactional(two, batch, RunPolicy.of(two, batch))

    assert isinstance(outcome, Settlement)
    assert not CallbackCall.objects.exists()
    for repeated in (outcome, replace(outcome, maybe_written=True)):
        change = settle(batch, repeated)
        assert (change.late, change.settled, change.due) == (1, (), {})
    batch.refresh_from_db()
    assert (batch.late_outcomes, batch.pending_jobs, batch.is_finished) == (2, 0, True)
    two.refresh_from_db()
    assert (two.status, two.attempts) == (LinkStatus.RUNNING, 0)


@transactional
@with_redis
def test_a_late_success_that_was_rolled_back_is_late_though_its_claim_is_valid_now() -> None:
    batch = dispatched(bus.job(jobs.write_added_row, "late"))
    (link,) = claim(batch)

    change = settle(batch, Settlement.late(link))

    assert (change.late, change.settled, change.due) == (1, (), {})
    link.refresh_from_db()
    assert (link.status, link.attempts) == (LinkStatus.RUNNING, 0)
