"""How many callbacks each run of a batch must have, as far as its run was seen from end to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.record import Ended, Record
from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.states import CALLBACK_LANE, Outcome, Role


def wrong(batch: JobBatch, past: Record) -> Iterator[str]:
    """Each callback that is due must be there once for its run, and no other."""
    registered = Counter(entry["role"] for entry in batch.callbacks)
    drawn = Counter(batch.jobs.callback_lane().values_list("run", "role"))
    for run in range(1, batch.run + 1):
        seen = Run(batch, run, past)
        for role in CALLBACK_LANE:
            count = drawn.pop((run, role), 0)
            if count not in {registered[role] * times for times in seen.times(role)}:
                yield f"{count} of {registered[role]} {role} callbacks in run {run}"
    if drawn:
        yield f"callbacks of runs that never were: {dict(drawn)}"


@dataclass(frozen=True)
class Run:
    """A run of a batch, and the record of the act before."""

    batch: JobBatch
    number: int
    past: Record

    def times(self, role: Role) -> set[int]:
        """How often the callbacks of a role may be due: once or not at all, or nobody knows."""
        if role == Role.FINALLY:
            return {1}
        return self._catch() if role == Role.CATCH else self._then()

    def _then(self) -> set[int]:
        end = self._end
        if end is None:
            return {0, 1}
        return {int(end.outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL))}

    def _catch(self) -> set[int]:
        if self._has_failures:
            # It may have been cancelled before the first of them, or after.
            is_certain = self._was_seen and self._end and not self._end.is_cancelled
            return {1} if is_certain else {0, 1}
        return {0, 1} if _may_have_failed_below(self.batch) else {0}

    @property
    def _end(self) -> Ended | None:
        return self.past.end(self.batch, self.number)

    @property
    def _was_seen(self) -> bool:
        """Whether no other run was between what was seen before it and what was seen after it."""
        return self.number in (1, self.past.runs(self.batch) + 1) and self._end is not None

    @property
    def _has_failures(self) -> bool:
        """Whether a job of its own has failed in this run, or may have."""
        was_over = self.number <= self.past.runs(self.batch)
        failures = FailedJob.objects.of_jobs().filter(batch_id=self.batch.pk)
        return any(
            (pk in self.past.failures) == was_over for pk in failures.values_list("pk", flat=True)
        )


def _may_have_failed_below(batch: JobBatch) -> bool:
    """Whether a job has ever failed in a batch below; of one that is gone nobody knows."""
    below = set(batch.jobs.exclude(child=None).values_list("child_id", flat=True))
    children = {child.pk: child for child in JobBatch.objects.filter(pk__in=below)}
    return (
        below != children.keys()
        or FailedJob.objects.of_jobs().filter(batch_id__in=below).exists()
        or any(map(_may_have_failed_below, children.values()))
    )
