"""The methods of JobBatch that delegate upward, to the operations and to the read model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from django.db import models

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch
    from django_jobbatch.models.job import BatchedJob


class BatchVerbs(models.Model):
    """Base class of JobBatch. Each method imports its implementation when it is called."""

    class Meta:
        abstract = True

    def results(self) -> Iterator[Any]:
        """Yield the return values of its succeeded jobs, by lane and position.

        Raises:
            ResultsNotStored: the batch was built without `store_results()`.
        """
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.results(self._batch)

    def snapshot(self) -> dict[str, Any]:
        """Return its counters and state as a dict of JSON types. A flat batch needs no query.

        The dict holds no arguments, results or error messages of jobs. So every user who may see
        the batch may see the dict.
        """
        from django_jobbatch import snapshot  # noqa: PLC0415 - the read model imports the models

        return snapshot.summary(self._batch)

    def cancel(self, reason: object = "", *, by: object = None, stop_running: bool = False) -> bool:
        """Cancel the batch: its unstarted jobs never start. See `operations.cancel`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.cancel(self._batch, reason, by=by, stop_running=stop_running)

    def retry(
        self, jobs: Iterable[BatchedJob | int] | None = None, *, include_cancelled: bool = False
    ) -> int:
        """Retry failed jobs and return the number of jobs that run again. See `operations.retry`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.retry(self._batch, jobs, include_cancelled=include_cancelled)

    def steps(self) -> list[dict[str, Any]]:
        """Return the counts of each step, the first step first, by one query.

        A step is a position in the lanes. Its dict has the keys `total`, `pending`, `succeeded`,
        `failed`, `cancelled`, `skipped` and `name`: the function of one of its links, or the name
        of a child batch.
        """
        from django_jobbatch import snapshot  # noqa: PLC0415 - the read model imports the models

        return snapshot.steps(self._batch)

    def add(self, items: object) -> int:
        """Add jobs to an open batch and return their number. See `operations.add`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.add(self._batch, items)

    def delete(
        self,
        using: str | None = None,
        keep_parents: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> tuple[int, dict[str, int]]:
        """Cancel the batch if it is unfinished, then delete its rows. See `operations.delete`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.delete(self._batch)

    @property
    def _batch(self) -> JobBatch:
        return cast("JobBatch", self)
