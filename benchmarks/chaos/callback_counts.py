"""Expected number of callbacks of each run of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.record import Record, RunOutcome
from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.states import CALLBACK_LANE, Outcome, Role


def mismatches(batch: JobBatch, previous: Record) -> Iterator[str]:
    """Yield each role whose callbacks do not match its run: each once, and no other."""
    registered = Counter(entry["role"] for entry in batch.callbacks)
    scheduled = Counter(batch.jobs.callback_lane().values_list("run", "role"))
    for number in range(1, batch.run + 1):
        run = Run(batch, number, previous)
        for role in CALLBACK_LANE:
            count = scheduled.pop((number, role), 0)
            if count not in {registered[role] * times for times in run.expected_times(role)}:
                yield f"{count} of {registered[role]} {role} callbacks in run {number}"
    if scheduled:
        yield f"callbacks of missing runs: {dict(scheduled)}"


@dataclass(frozen=True)
class Run:
    """Run of a batch, with the record of the previous phase."""

    batch: JobBatch
    number: int
    previous: Record

    def expected_times(self, role: Role) -> set[int]:
        """Return the possible numbers of calls of each callback: 0, 1 or, if unknown, both."""
        if role == Role.FINALLY:
            return {1}
        return self._catch() if role == Role.CATCH else self._then()

    def _then(self) -> set[int]:
        outcome = self._outcome
        if outcome is None:
            return {0, 1}
        return {int(outcome.outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL))}

    def _catch(self) -> set[int]:
        if self._has_failures:
            # A cancel may have come before the first failure.
            is_certain = self._is_recorded and self._outcome and not self._outcome.is_cancelled
            return {1} if is_certain else {0, 1}
        return {0, 1} if _may_have_failed_descendants(self.batch) else {0}

    @property
    def _outcome(self) -> RunOutcome | None:
        return self.previous.outcome_of(self.batch, self.number)

    @property
    def _is_recorded(self) -> bool:
        """Whether this run is the only one between the two records."""
        is_next = self.number in (1, self.previous.last_run(self.batch) + 1)
        return is_next and self._outcome is not None

    @property
    def _has_failures(self) -> bool:
        """Whether jobs of the batch itself have failed, or may have failed, in this run."""
        was_finished = self.number <= self.previous.last_run(self.batch)
        failures = FailedJob.objects.of_jobs().filter(batch_id=self.batch.pk)
        return any(
            (pk in self.previous.failures) == was_finished
            for pk in failures.values_list("pk", flat=True)
        )


def _may_have_failed_descendants(batch: JobBatch) -> bool:
    """Return whether a descendant has failures, or was deleted with them, perhaps with its stand-in."""
    child_ids = set(batch.jobs.exclude(child=None).values_list("child_id", flat=True))
    children = {child.pk: child for child in JobBatch.objects.filter(pk__in=child_ids)}
    return (
        len(children) < batch.child_batches
        or FailedJob.objects.of_jobs().filter(batch_id__in=child_ids).exists()
        or any(map(_may_have_failed_descendants, children.values()))
    )
