"""The checker of chaos reports each wrong row, and nothing about correct rows."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.chaos import callback_counts, checker, history, hostile, hostile_jobs, jobs
from benchmarks.chaos.additions import Addition
from benchmarks.chaos.deletions import Deletion
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.injected import Injected
from benchmarks.chaos.nemesis import Nemesis
from benchmarks.chaos.phases import NotRetried, Reset, Retry
from benchmarks.chaos.record import Record
from benchmarks.chaos.workers import WorkerPool
from benchmarks.stage import Stage
from django_jobbatch import bus
from django_jobbatch.exceptions import BatchBusy
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


def violations(
    previous: Record, reset: Reset | None = None, injected: Injected | None = None
) -> list[str]:
    found = checker.violations(previous, reset or Reset(), injected)
    return [violation.text for violation in found]


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


def test_a_child_batch_that_is_deleted_with_its_stand_in_may_have_failed() -> None:
    inner = bus.batch([bus.job(jobs.fail_runs, 1)])
    batch = bus.batch([inner]).allow_failures().catch(jobs.failure_callback, 0).on_queue("sync")
    tree = batch.dispatch()
    assert list(callback_counts.mismatches(tree, Record())) == []

    tree.children.delete()
    tree.jobs.exclude(child=None).delete()

    assert list(callback_counts.mismatches(tree, Record())) == []


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
    texts = [text for text in violations(previous) if text.endswith("was never called")]
    assert sorted(texts) == sorted(
        f"link {pk} has succeeded and was never called" for pk in links.values_list("pk", flat=True)
    )


def test_a_retry_without_effect_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobBatch, "retry", lambda *_, **__: 0)

    with pytest.raises(NotRetried, match="is in run 1 instead of 2"):
        retry("root")


def test_a_retry_of_an_emptied_child_batch_resets_its_stand_in_alone() -> None:
    """A delete that has died leaves such a tree."""
    root().delete()
    tree = bus.batch([bus.batch([bus.job(jobs.fail_runs, 1)])]).on_queue("sync").dispatch()
    (inner,) = tree.children
    inner.jobs.all().delete()
    JobBatch.objects.filter(pk=inner.pk).update(total_jobs=0, failed_jobs=0)

    assert retry("jobs") == Reset()

    tree.refresh_from_db()
    assert tree.run == 2


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

    injected = Injected(deletions=[deletion])

    deletion.is_complete = True

    assert deletion.batches == {root().pk, inner.pk}
    assert violations(previous, injected=injected) == [f"{rows} rows remain of a deleted tree"]
    deletion.run()
    assert violations(previous, injected=injected) == []


def test_a_repeated_deletion_also_deletes_what_was_added_after_its_interruption() -> None:
    batch = bus.batch([bus.job(jobs.work, 0)]).on_queue("default").dispatch()
    deletion = Deletion.of(batch)
    batch.add(bus.batch([bus.job(jobs.work, 0)]))
    previous = Record.take()

    deletion.run()

    assert violations(previous, injected=Injected(deletions=[deletion])) == []


def test_batches_without_a_deletion_exist() -> None:
    previous = Record.take()
    batches, jobs_and_callbacks = JobBatch.objects.count(), len(previous.settled)

    root().delete()

    texts = violations(previous)
    assert sum(text.startswith("the batch was") for text in texts) == batches
    assert sum(text.startswith("link") for text in texts) == jobs_and_callbacks
    assert len(texts) == batches + jobs_and_callbacks


def test_an_accepted_addition_has_stored_all_its_jobs_and_a_rejected_one_none() -> None:
    batch = bus.batch([bus.job(jobs.work, 0)]).on_queue("default").dispatch()
    addition = Addition.of(batch, 1)
    injected = Injected(additions=[addition])
    previous = Record()

    def texts() -> list[str]:
        found = violations(previous, injected=injected)
        return [text for text in found if text.endswith("expected: " + str([*addition.expected]))]

    assert texts() == []  # no answer: all or none
    addition.run(batch.add)
    assert texts() == []
    assert addition.rows().count() == addition.count > 1

    addition.reject()
    assert texts() == [f"{addition.count} of {addition.count} jobs were added, expected: [0]"]

    addition.accept()
    addition.rows().order_by("pk")[:1].get().delete()
    assert texts() == [
        f"{addition.count - 1} of {addition.count} jobs were added, expected: [{addition.count}]"
    ]


def test_an_added_child_batch_may_be_deleted_with_its_jobs() -> None:
    inner = bus.batch([bus.job(jobs.added, "token"), bus.job(jobs.added, "token")])
    batch = bus.batch([inner]).on_queue("sync").dispatch()
    addition = Addition(batch.pk, [], "token", 2, {2})
    (child,) = batch.children
    deletion = Deletion.of(child)
    injected = Injected(additions=[addition], deletions=[deletion])

    deletion.run()

    texts = violations(Record(), injected=injected)
    assert [text for text in texts if "were added" in text] == []
    texts = violations(Record(), injected=Injected(additions=[addition]))
    assert "0 of 2 jobs were added, expected: [2]" in texts


def test_a_batch_stays_partial_when_its_partial_child_is_deleted() -> None:
    inner = bus.batch([bus.job(jobs.fail_runs, 1)]).allow_failures()
    batch = bus.batch([inner]).on_queue("sync").dispatch()
    assert (batch.outcome, violations(Record())) == (Outcome.PARTIAL, [])

    batch.children.get().delete()

    assert violations(Record()) == []


@pytest.mark.parametrize("func", [jobs.fail, jobs.fail_first, jobs.fail_runs])
def test_a_job_that_always_failed_has_not_succeeded(func: Any) -> None:
    batch = bus.batch([bus.job(func, 1)]).on_queue("sync").dispatch()
    batch.jobs.update(status=LinkStatus.SUCCEEDED)

    text = f"link {batch.jobs.get().pk} ({func.__name__}) has succeeded and had to fail"
    assert text in violations(Record())


@pytest.mark.parametrize(("stores_results", "is_wrong"), [(True, True), (False, False)])
def test_a_result_that_the_database_rejects_fails_its_job_if_the_batch_stores_results(
    *, stores_results: bool, is_wrong: bool
) -> None:
    builder = bus.batch([bus.job(hostile_jobs.return_rejected, 1)]).on_queue("sync")
    batch = (builder.store_results() if stores_results else builder).dispatch()
    batch.jobs.update(status=LinkStatus.SUCCEEDED)

    assert [text for text in violations(Record()) if text.endswith("had to fail")] == [
        f"link {link.pk} (return_rejected) has succeeded and had to fail"
        for link in batch.jobs.all()
        if is_wrong
    ]


def test_a_job_fails_with_its_own_exception_or_because_workers_were_lost() -> None:
    failure = FailedJob.objects.filter(batch_id=root().pk)
    failure.update(exception_class="django.db.utils.OperationalError", message="no answer")

    text = (
        f"link {failure.get().job_id}: benchmarks.chaos.jobs.fail_runs failed with"
        " django.db.utils.OperationalError: no answer"
    )
    assert text in violations(Record())
    dropped = Injected(kinds=Counter(["connections_dropped"]))
    assert violations(Record(), injected=dropped) == []

    failure.update(exception_class="django_jobbatch.exceptions.WorkerLost")
    assert all("failed with" not in text for text in violations(Record()))


def test_each_hostile_job_and_callback_has_its_function() -> None:
    names = [*hostile.weights([*hostile.HOSTILE]), *hostile.callbacks([*hostile.HOSTILE])]

    for name in [*names, *hostile.progress([*hostile.HOSTILE])]:
        assert callable(getattr(hostile_jobs, name))


def test_each_exception_of_a_hostile_job_exists() -> None:
    for name in {name for job in hostile.JOBS.values() for name in job.errors}:
        module, _, qualname = name.rpartition(".")
        error = getattr(importlib.import_module(module or "builtins"), qualname)
        assert issubclass(error, Exception)


def test_a_rejection_by_the_app_is_an_answer_to_the_nemesis(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A retry may reopen the parent of a child batch at any moment.
    def delete(batch: JobBatch) -> None:
        raise BatchBusy

    monkeypatch.setattr(JobBatch, "delete", delete)
    nemesis = Nemesis(cast("Stage", None), WorkerPool([], tmp_path))

    has_effect, text = nemesis.inject(Fault(0, "deleted", 1))

    assert (has_effect, text) == (False, f"rejected: {BatchBusy()!r}")
    assert nemesis.injected == Injected()
    with pytest.raises(RuntimeError, match=r"the deletion of the root .* was rejected"):
        nemesis.inject(Fault(0, "deleted", 2))
