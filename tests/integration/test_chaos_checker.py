"""What the judge of chaos finds wrong, and that it lets pass what is right: one row spoiled at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.chaos import checker, history, jobs
from benchmarks.chaos.deletions import Deletion
from benchmarks.chaos.phases import Begun, NotRetried, Retry
from benchmarks.chaos.record import Record
from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Outcome, Role

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server", "played"),
]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A batch that fails in its first run, and has every callback; a batch with one that fails is in it."""
    monkeypatch.setenv(history.VARIABLE, str(tmp_path / "diary"))
    inner = bus.batch([bus.job(jobs.fail_runs, 1)]).catch(jobs.told_failure, 0)
    batch = bus.batch([bus.job(jobs.work, 0), bus.job(jobs.fail_runs, 1), inner])
    batch = batch.allow_failures().catch(jobs.told_failure, 0).then(jobs.told, 0)
    batch.finally_(jobs.told, 0).on_queue("sync").dispatch()


def root() -> JobBatch:
    return JobBatch.objects.roots().get()


def found(past: Record, begun: Begun | None = None) -> list[str]:
    return [each.what for each in checker.violations(past, begun or Begun())]


def retry(scope: str) -> Begun | None:
    return Retry(scope, include_cancelled=False, dies_after=0, choice=0).begin()


def second_act() -> Record:
    """Retry the whole of it, and return how it stood before."""
    past = Record.take()
    assert retry("root") == Begun(whole=root().pk)
    return past


def test_a_batch_that_was_cancelled_and_has_only_succeeded_is_not_retried() -> None:
    # As one whose other links were deleted.
    JobBatch.objects.update(outcome=Outcome.CANCELLED, failed_jobs=0)

    assert retry("root") is None


def test_nothing_is_wrong_with_what_the_app_does() -> None:
    assert found(Record()) == []

    past = second_act()

    assert (root().run, root().outcome, found(past)) == (2, Outcome.SUCCEEDED, [])


def test_every_failure_of_a_run_that_was_seen_has_its_catch() -> None:
    root().jobs.filter(role=Role.CATCH).delete()

    assert found(Record()) == ["0 of 1 catch callbacks in run 1"]


def test_a_run_in_which_nothing_failed_has_no_catch() -> None:
    past = second_act()

    (inner,) = root().children
    inner.jobs.filter(role=Role.CATCH).update(run=2)

    assert found(past) == [
        "0 of 1 catch callbacks in run 1",
        "1 of 1 catch callbacks in run 2",
    ]


@pytest.mark.parametrize("run", [1, 2])
def test_then_is_called_in_every_run_that_went_well(run: int) -> None:
    past = second_act()

    root().jobs.filter(role=Role.THEN, run=run).delete()

    wrong = found(past)
    assert wrong[0] == f"0 of 1 then callbacks in run {run}"
    # That of the first run stood there before.
    assert len(wrong) == (2 if run == 1 else 1)


def test_how_a_run_has_ended_does_not_change_after_it() -> None:
    past = Record.take()

    JobBatch.objects.filter(pk=root().pk).update(outcome=Outcome.FAILED)

    assert found(past)[-1].startswith("it stood as Ended(run=1, outcome='partial'")


def test_a_job_that_had_succeeded_is_not_touched_again() -> None:
    past = second_act()
    links = root().jobs.filter(pk__in=past.settled, role=Role.JOB)
    (link,) = links

    links.update(fence=7)

    assert found(past)[0].startswith(f"link {link.pk} stood as Settled(")


def test_what_succeeds_in_the_second_act_was_called_in_it() -> None:
    past = second_act()
    lines = Path(os.environ[history.VARIABLE])

    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[: past.calls]))

    links = BatchedJob.objects.succeeded().filter(child=None).exclude(pk__in=past.settled)
    assert sorted(found(past)) == sorted(
        f"link {pk} has succeeded and was never called" for pk in links.values_list("pk", flat=True)
    )


def test_a_retry_that_brings_nothing_back_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobBatch, "retry", lambda *_, **__: 0)

    with pytest.raises(NotRetried, match="is in run 1, and not in 2"):
        retry("root")


@pytest.mark.parametrize(("next_run", "is_wrong"), [(1, True), (2, False)])
def test_a_batch_whose_next_run_never_came_may_have_ended_otherwise_than_its_link(
    next_run: int, *, is_wrong: bool
) -> None:
    link = root().jobs.exclude(child=None)
    link.update(status=LinkStatus.CANCELLED, child_run=next_run)

    wrong = f"it has ended as failed, and its link {link.get().pk} as cancelled"
    assert (wrong in found(Record())) is is_wrong


def test_a_retry_of_all_leaves_out_nothing_that_had_failed() -> None:
    past = second_act()

    FailedJob.objects.filter(batch_id=root().pk).update(retried_at=None)

    assert found(past, Begun(whole=root().pk)) == ["not all that had failed was retried"]


def test_failed_callbacks_that_were_chosen_come_back_without_a_new_run() -> None:
    JobBatch.objects.exclude(pk=root().pk).update(outcome=Outcome.SUCCEEDED)  # of no interest here
    root().jobs.jobs_only().failed().update(status=LinkStatus.SUCCEEDED)
    link = root().jobs.get(role=Role.FINALLY)
    BatchedJob.objects.filter(pk=link.pk).update(status=LinkStatus.FAILED)
    FailedJob.objects.all().delete()

    assert retry("jobs") == Begun((link.pk,))

    link.refresh_from_db()
    assert (link.status, link.run, root().run) == (LinkStatus.SUCCEEDED, 1, 1)


def test_a_deletion_that_is_through_leaves_no_row_and_one_that_broke_off_may() -> None:
    past = Record.take()
    deletion = Deletion.of(root())
    (inner,) = root().children
    left = JobBatch.objects.count() + BatchedJob.objects.count()

    deletion.is_whole = True

    assert deletion.batches == {root().pk, inner.pk}
    assert [each.what for each in checker.violations(past, Begun(), [deletion])] == [
        f"{left} rows are left of what was deleted"
    ]
    deletion.run()
    assert checker.violations(past, Begun(), [deletion]) == []


def test_what_nobody_has_deleted_is_there() -> None:
    past = Record.take()
    batches, jobs_and_callbacks = JobBatch.objects.count(), len(past.settled)

    root().delete()

    wrong = found(past)
    assert sum(each.startswith("it stood as") for each in wrong) == batches
    assert sum(each.startswith("link") for each in wrong) == jobs_and_callbacks
    assert len(wrong) == batches + jobs_and_callbacks
