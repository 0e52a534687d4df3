"""What becomes of other apps' rows that point at ours: their `on_delete` says, Django does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector

from django_jobbatch.models import BatchedJob, JobBatch


class Cascade(Collector):
    """Django's own cascade, which stops at the links of a batch: they are too many to be read."""

    def related_objects(
        self, related_model: type[Model], related_fields: Iterable[Field[Any, Any]], objs: Any
    ) -> QuerySet[Any]:
        """As Django finds them, without our own."""
        found: QuerySet[Any] = super().related_objects(related_model, related_fields, objs)
        return found.none() if related_model is BatchedJob else found


def check(using: str, batch: JobBatch, links: Sequence[BatchedJob] = ()) -> None:
    """Raise unless these links of the batch, and the batch, may go as far as other apps say.

    Raises:
        ProtectedError: a row that points there is PROTECT.
        RestrictedError: one is RESTRICT, and does not go with the batch anyway.
    """
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch], fail_on_restricted=not links)
    cascade.collect(links)


def apply_on_delete(using: str, batch: JobBatch) -> Counter[str]:
    """Do to the rows that point at the batch what they ask for; how many went, by model."""
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch])
    del cascade.data[JobBatch]
    return Counter(cascade.delete()[1])


def delete(using: str, batch: JobBatch) -> Counter[str]:
    """Delete the batch, which has no links any more, and what points at it; how many, by model."""
    cascade = Cascade(using, origin=batch)
    cascade.collect([batch])
    return Counter(cascade.delete()[1])


def references_links(using: str) -> bool:
    """Whether Django has to read links to delete them, because models point at them."""
    return not Collector(using).can_fast_delete(BatchedJob.objects.using(using).none())
