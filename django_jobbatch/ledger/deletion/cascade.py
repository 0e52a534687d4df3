"""Rows of other apps that refer to batches and links: Django applies their `on_delete`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector

from django_jobbatch.models import BatchedJob, JobBatch


class Cascade(Collector):
    """Django's own cascade without the links of a batch, which may be too many to read."""

    def related_objects(
        self, related_model: type[Model], related_fields: Iterable[Field[Any, Any]], objs: Any
    ) -> QuerySet[Any]:
        """Return the related objects without links."""
        found: QuerySet[Any] = super().related_objects(related_model, related_fields, objs)
        return found.none() if related_model is BatchedJob else found


def check(using: str, batch: JobBatch, links: Sequence[BatchedJob] = ()) -> None:
    """Check that rows of other apps allow the batch and these links of it to be deleted.

    Raises:
        ProtectedError: a row that refers to them has PROTECT.
        RestrictedError: a row has RESTRICT, and is not deleted with the batch anyway.
    """
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch], fail_on_restricted=not links)
    cascade.collect(links)


def apply_on_delete(using: str, batch: JobBatch) -> Counter[str]:
    """Apply the `on_delete` of rows that refer to the batch; return the number of deleted rows by model."""
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch])
    del cascade.data[JobBatch]
    return Counter(cascade.delete()[1])


def delete(using: str, batch: JobBatch) -> Counter[str]:
    """Delete a batch without links and the rows that refer to it; return the number of rows by model."""
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch])
    return Counter(cascade.delete()[1])


def references_links(using: str) -> bool:
    """Return whether Django must read links to delete them, because models refer to them."""
    return not Collector(using).can_fast_delete(BatchedJob.objects.using(using).none())
