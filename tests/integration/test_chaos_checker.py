"""The checker of chaos reports each wrong row, and nothing about correct rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.chaos import checker, history, jobs
from benchmarks.chaos.deletions import Deletion
from benchmarks.chaos.phases import NotRetried, Reset, Retry
from benchmarks.chaos.record import Record
from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Outcome, Role

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server", "finished_tree"),
]


@pytest.fixture
def finished_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A batch with all callbacks and a child batch, both with failures in run 1."""
    monkeypatch.setenv(history.VARIABLE, str(tmp_path / "history"))
    inner = bus.batch([bus.job(jobs.fail_runs, 1)]).catch(jobs.failure_callback, 0)
    batch = bus.batch([bus.job(jobs.work, 0), bus.job(jobs.fail_runs, 1), inner])
    batch = batch.allow_failures().catch(jobs.failure_callback, 0).then(jobs.callback, 0)
    batch.finally_(jobs.callback, 0).on_queue("sync").dispatch()


def root() -> JobBatch:
    return JobBatch.objects.roots().get()


def violations(previous: Record, reset: Reset | None = None) -> list[str]:
    return [violation.text for violation in checker.violations(previous, reset or Reset())]


def retry(scope: str) -> Reset | None:
    return Retry(scope, include_cancelled=False, killed_after=0, choice=0).perform()


def second_phase() -> Record:
    """Retry the whole tree; return the record from before the retry."""
    previous = Record.take()
    assert retry("root") == Reset(whole_batch=root().pk)
    return previous


def test_a_cancelled_batch_with_succeeded_jobs_only_is_not_retried() -> None:
    # Like a batch whose other links were deleted.
    JobBatch.objects.update(outcome=Outcome.CANCELLED, failed_jobs=0)

    assert retry("root") is None


def test_correct_rows_have_no_violations() -> None:
    assert violations(Record()) == []

    previous = second_phase()

    assert (root().run, root().outcome, violations(previous)) == (2, Outcome.SUCCEEDED, [])


def test_a_run_with_failures_has_its_catch() -> None:
    root().jobs.filter(role=Role.CATCH).delete()

    assert violations(Record()) == ["0 of 1 catch callbacks in run 1"]


def test_a_run_without_failures_has_no_catch() -> None:
    previous = second_phase()

    (inner,) = root().children
    inner.jobs.filter(role=Role.CATCH).update(run=2)

    assert violations(previous) == [
        "0 of 1 catch callbacks in run 1",
        "1 of 1 catch callbacks in run 2",
    ]


@pytest.mark.parametrize("run", [1, 2])
def test_then_is_called_in_each_successful_run(run: int) -> None:
    previous = second_phase()

    root().jobs.filter(role=Role.THEN, run=run).delete()

    texts = violations(previous)
    assert texts[0] == f"0 of 1 then callbacks in run {run}"
    # The callback of run 1 is in the record too.
    assert len(texts) == (2 if run == 1 else 1)


def test_the_outcome_of_a_finished_run_is_unchanged() -> None:
    previous = Record.take()

    JobBatch.objects.filter(pk=root().pk).update(outcome=Outcome.FAILED)

    assert violations(previous)[-1].startswith("the batch was RunOutcome(run=1, outcome='partial'")


def test_a_succeeded_job_is_unchanged() -> None:
    previous = second_phase()
    links = root().jobs.filter(pk__in=previous.settled, role=Role.JOB)
    (link,) = links

    links.update(fence=7)

    assert violations(previous)[0].startswith(f"link {link.pk} was SettledLink(")


def test_jobs_that_succeed_in_the_second_phase_were_called_in_it() -> None:
    previous = second_phase()
    lines = Path(os.environ[history.VARIABLE])

    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[: previous.calls]))

    links = BatchedJob.objects.succeeded().filter(child=None).exclude(pk__in=previous.settled)
    assert sorted(violations(previous)) == sorted(
        f"link {pk} has succeeded and was never called" for pk in links.values_list("pk", flat=True)
    )


def test_a_retry_without_effect_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobBatch, "retry", lambda *_, **__: 0)

    with pytest.raises(NotRetried, match="is in run 1 instead of 2"):
        retry("root")


@pytest.mark.parametrize(("next_run", "is_wrong"), [(1, True), (2, False)])
def test_a_batch_may_differ_from_its_stand_in_if_its_next_run_never_started(
    next_run: int, *, is_wrong: bool
) -> None:
    link = root().jobs.exclude(child=None)
    link.update(status=LinkStatus.CANCELLED, child_run=next_run)

    text = f"the outcome is failed, but its stand-in {link.get().pk} is cancelled"
    assert (text in violations(Record())) is is_wrong


def test_a_retry_of_a_whole_batch_retries_all_failed_jobs() -> None:
    previous = second_phase()

    FailedJob.objects.filter(batch_id=root().pk).update(retried_at=None)

    assert violations(previous, Reset(whole_batch=root().pk)) == [
        "some failed jobs were not retried"
    ]


def test_chosen_failed_callbacks_are_retried_without_a_new_run() -> None:
    JobBatch.objects.exclude(pk=root().pk).update(outcome=Outcome.SUCCEEDED)  # not retryable here
    root().jobs.jobs_only().failed().update(status=LinkStatus.SUCCEEDED)
    link = root().jobs.get(role=Role.FINALLY)
    BatchedJob.objects.filter(pk=link.pk).update(status=LinkStatus.FAILED)
    FailedJob.objects.all().delete()

    assert retry("jobs") == Reset((link.pk,))

    link.refresh_from_db()
    assert (link.status, link.run, root().run) == (LinkStatus.SUCCEEDED, 1, 1)


def test_a_complete_deletion_leaves_no_rows_and_an_interrupted_one_may() -> None:
    previous = Record.take()
    deletion = Deletion.of(root())
    (inner,) = root().children
    rows = JobBatch.objects.count() + BatchedJob.objects.count()

    deletion.is_complete = True

    assert deletion.batches == {root().pk, inner.pk}
    assert [violation.text for violation in checker.violations(previous, Reset(), [deletion])] == [
        f"{rows} rows remain of a deleted tree"
    ]
    deletion.run()
    assert checker.violations(previous, Reset(), [deletion]) == []


def test_batches_without_a_deletion_exist() -> None:
    previous = Record.take()
    batches, jobs_and_callbacks = JobBatch.objects.count(), len(previous.settled)

    root().delete()

    texts = violations(previous)
    assert sum(text.startswith("the batch was") for text in texts) == batches
    assert sum(text.startswith("link") for text in texts) == jobs_and_callbacks
    assert len(texts) == batches + jobs_and_callbacks
