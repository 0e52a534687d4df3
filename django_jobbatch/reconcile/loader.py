"""Reading the batches to inspect in chunks, with the tickets that hold their links and their callbacks.

A chunk costs two queries, and one more if some of its batches start no further jobs.
"""

from __future__ import annotations

import uuid
from collections import ChainMap, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, F, Max, Q
from django.utils import timezone

from django_jobbatch import db, ledger, tuning
from django_jobbatch.models import BatchedJob, JobBatch, JobBatchQuerySet
from django_jobbatch.models.shape import report_unreadable, shape_error
from django_jobbatch.states import OPEN, LinkStatus


@dataclass(frozen=True, slots=True)
class TicketHoldings:
    """The links of one batch that one ticket holds: how many, how many expired, the last claim."""

    batch_id: uuid.UUID
    queue: str
    ticket: str
    links: int
    expired: int
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class PendingCallback:
    """A callback that is not settled."""

    batch_id: uuid.UUID
    role: str
    queue: str
    status: str
    available_at: datetime | None

    @property
    def is_due(self) -> bool:
        """Whether a ticket may claim it."""
        is_delayed = self.available_at is not None and self.available_at > timezone.now()
        return self.status == LinkStatus.PENDING and not is_delayed


@dataclass(slots=True)
class BatchChunk:
    """Batches to inspect, with the tickets that hold their links and with their callbacks."""

    batches: list[JobBatch]
    holdings: Mapping[uuid.UUID, Sequence[TicketHoldings]]
    pending_callbacks: Mapping[uuid.UUID, Sequence[PendingCallback]]


def chunk_of(using: str, batches: Iterable[JobBatch]) -> BatchChunk:
    """Return the readable ones of these batches, with their tickets and callbacks.

    One batch must not hide the others. So a batch is logged and left out if its JSON has a wrong
    shape, or if its links cannot be read.
    """
    readable = [each for each in batches if _has_right_shape(each)]
    try:
        return BatchChunk(readable, holdings(using, readable), pending_callbacks(using, readable))
    except Exception as error:
        if db.is_lost(error, using):
            raise
        if len(readable) == 1:
            report_unreadable(readable[0].pk, error)
            return BatchChunk([], {}, {})
    chunks = [chunk_of(using, [each]) for each in readable]
    return BatchChunk(
        [batch for each in chunks for batch in each.batches],
        dict(ChainMap(*(dict(each.holdings) for each in chunks))),
        dict(ChainMap(*(dict(each.pending_callbacks) for each in chunks))),
    )


def unsettled_chunks(using: str, within: uuid.UUID | None) -> Iterator[list[JobBatch]]:
    """Return the batches that are not at rest, in chunks; with `within` only those of its tree."""
    batches = with_parents(using).not_at_rest()
    if within is not None:
        batches = batches.filter(_in_tree_of(using, within))
    page = batches.order_by("pk")[: tuning.RECONCILE_CHUNK]
    while (read := db.read_rows(page, report_unreadable)).last is not None:
        yield read.rows
        page = batches.order_by("pk").filter(pk__gt=read.last)[: tuning.RECONCILE_CHUNK]


def batches_of_ticket(
    using: str, within: uuid.UUID, ticket: str, taken_over: Collection[uuid.UUID] = ()
) -> list[JobBatch]:
    """Return the batches of the tree `within` whose links this ticket holds, and their ancestors.

    Those of the trees of the batches `taken_over` are included, and these themselves.
    """
    unsettled = JobBatch.objects.using(using).not_at_rest()
    roots = _roots(unsettled, taken_over)
    tree = unsettled.filter(
        _in_tree_of(using, within) | Q(pk__in=roots.values()) | Q(root_id__in=roots.values())
    )
    holding = BatchedJob.objects.using(using).running().filter(claimed_by=ticket)
    # By ids: no index has the links of a ticket, and with a subquery PostgreSQL would read the links
    # of all batches.
    ids = {
        each
        for chunk in db.chunked(list(tree.order_by("pk").values_list("pk", flat=True)))
        for each in holding.filter(batch_id__in=chunk).order_by().values_list("batch_id", flat=True)
    }
    ancestors = {each for pk in ids for each in ledger.ancestor_ids(using, pk)}
    batches = with_parents(using).not_at_rest().filter(pk__in=ids | ancestors | roots.keys())
    return db.read_rows(batches.order_by("pk"), report_unreadable).rows


def with_parents(using: str) -> JobBatchQuerySet:
    """Return batches, annotated with the state of their stand-ins and parents."""
    return JobBatch.objects.using(using).annotate(
        stand_in_status=F("parent__status"),
        stand_in_run=F("parent__child_run"),
        parent_status=F("parent__batch__status"),
    )


def holdings(using: str, chunk: Sequence[JobBatch]) -> dict[uuid.UUID, list[TicketHoldings]]:
    """Return which tickets hold links of these batches, by batch."""
    running = BatchedJob.objects.using(using).running().exclude(lease_until=None)
    running = running.filter(batch_id__in=[batch.pk for batch in chunk])
    is_expired = Q(lease_until__lt=timezone.now())
    held_rows = (
        running.values("batch_id", "queue", "claimed_by")
        .annotate(
            links=Count("pk"),
            expired_links=Count("pk", filter=is_expired),
            claimed_at=Max("started_at"),
        )
        .values_list("batch_id", "queue", "claimed_by", "links", "expired_links", "claimed_at")
        .order_by("batch_id", "queue", "claimed_by")
    )
    found: dict[uuid.UUID, list[TicketHoldings]] = defaultdict(list)
    for row in held_rows:
        each = TicketHoldings(*row)
        found[each.batch_id].append(each)
    return found


def pending_callbacks(
    using: str, chunk: Iterable[JobBatch]
) -> dict[uuid.UUID, list[PendingCallback]]:
    """Return the unsettled callbacks of those batches that start no further jobs, by batch."""
    pks = [batch.pk for batch in chunk if batch.callbacks and batch.status not in OPEN]
    found: dict[uuid.UUID, list[PendingCallback]] = defaultdict(list)
    if pks:
        callbacks = BatchedJob.objects.using(using).callbacks().unsettled().filter(batch_id__in=pks)
        for row in callbacks.values_list("batch_id", "role", "queue", "status", "available_at"):
            each = PendingCallback(*row)
            found[each.batch_id].append(each)
    return found


def _roots(batches: JobBatchQuerySet, pks: Collection[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
    """Return the root of each of these batches that is among `batches`."""
    if not pks:
        return {}
    rows = batches.filter(pk__in=pks).order_by().values_list("pk", "root_id")
    roots: dict[uuid.UUID, uuid.UUID | None] = dict(rows)
    return {pk: root or pk for pk, root in roots.items()}


def _in_tree_of(using: str, batch_id: uuid.UUID) -> Q:
    batches = JobBatch.objects.using(using).filter(pk=batch_id).order_by()
    root = batches.values_list("root_id", flat=True).first() or batch_id
    return Q(pk=root) | Q(root_id=root)


def _has_right_shape(batch: JobBatch) -> bool:
    error = shape_error(batch)
    if error:
        report_unreadable(batch.pk, error)
    return not error
