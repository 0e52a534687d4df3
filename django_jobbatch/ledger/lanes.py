"""What the end of a link does to the rest of its lane; the batch row is locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import reduce
from operator import or_

from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.models import BatchedJob
from django_jobbatch.schedule import earliest, start_time
from django_jobbatch.states import OPEN, LinkStatus


def skip_following(using: str, change: Change, stopped: Iterable[BatchedJob]) -> Change:
    """Settle as skipped what waits behind these links, and count it.

    In a batch that has been closed it is not skipped but cancelled, by the sweep.
    """
    batch = change.batch
    places = [Q(lane=link.lane, position__gt=link.position) for link in stopped]
    if batch is None or batch.status not in OPEN or not batch.has_lanes or not places:
        return change
    rest = rows.lane_links(using, batch.pk).filter(reduce(or_, places), status=LinkStatus.WAITING)
    if batch.child_batches:
        stand_ins = rest.exclude(child=None).select_for_update()
        change = with_children_to_stop(change, stand_ins.values_list("child_id", flat=True))
    skipped = rest.update(status=LinkStatus.SKIPPED, ended_at=timezone.now())
    if skipped:
        rows.write(
            using,
            batch,
            pending_jobs=batch.pending_jobs - skipped,
            skipped_jobs=batch.skipped_jobs + skipped,
        )
    return change


def make_next_due(using: str, change: Change, succeeded: Iterable[int]) -> Change:
    """Make due what follows these links in their lanes, unless the batch has been closed."""
    batch, pks = change.batch, list(succeeded)
    if batch is None or not batch.has_lanes or batch.status not in OPEN or not pks:
        return change
    lanes = rows.lane_links(using, batch.pk)
    following = lanes.filter(lane=OuterRef("lane"), position__gt=OuterRef("position"))
    # After a retry some of what follows may have succeeded already.
    following = following.exclude(status=LinkStatus.SUCCEEDED)
    first = following.order_by("position").values("pk")[:1]
    # By nothing but ids: where PostgreSQL has no statistics yet, it would read the whole batch.
    settled = BatchedJob.objects.using(using).filter(pk__in=pks)
    found = settled.values_list(Subquery(first), flat=True)
    # Those that end their lane are dropped here: in SQL the subquery would run twice.
    return _make_due(using, change, [pk for pk in found if pk is not None])


def start_delays(using: str, change: Change, delayed: Iterable[BatchedJob]) -> Change:
    """Have the delays of these pending links begin now."""
    by_start = _by_start_time(delayed)
    for at, alike in by_start.items():
        BatchedJob.objects.using(using).filter(
            pk__in=[link.pk for link in alike], status=LinkStatus.PENDING
        ).update(available_at=at)
    return record_next_event(using, change, [at for at in by_start if at])


def record_next_event(using: str, change: Change, moments: Iterable[datetime]) -> Change:
    """Remember when the first of some delayed links is due, if it is before all others."""
    batch, at = change.batch, min(moments, default=None)
    if batch is None or at is None or earliest(at, batch.next_event_at) == batch.next_event_at:
        return change
    rows.write(using, batch, next_event_at=at)
    return replace(change, next_event_at=at)


def with_children_to_stop(change: Change, children: Iterable[object]) -> Change:
    """The same, with further child batches to be stopped; None is none."""
    found = [child for child in children if child is not None]
    return replace(change, children_to_stop=(*change.children_to_stop, *found)) if found else change  # type: ignore[arg-type]


def _make_due(using: str, change: Change, pks: Sequence[int]) -> Change:
    batch = change.batch
    if batch is None or not pks:
        return change
    found = list(
        BatchedJob.objects.using(using)
        .filter(pk__in=sorted(pks), status=LinkStatus.WAITING)
        .select_for_update()
        .order_by("pk")
        .only("queue", "options")
    )
    by_start = _by_start_time(found)
    for at, alike in by_start.items():
        BatchedJob.objects.using(using).filter(
            pk__in=[link.pk for link in alike], status=LinkStatus.WAITING
        ).update(status=LinkStatus.PENDING, available_at=at)
    for link in by_start.get(None, ()):
        change = change.with_due(link.queue)
    return record_next_event(using, change, [at for at in by_start if at])


def _by_start_time(links: Iterable[BatchedJob]) -> dict[datetime | None, list[BatchedJob]]:
    by_start: dict[datetime | None, list[BatchedJob]] = defaultdict(list)
    for link in links:
        by_start[_start_time(link)].append(link)
    return by_start


def _start_time(link: BatchedJob) -> datetime | None:
    """When a link whose turn comes now may begin, as its options say."""
    run_after = link.options.get("run_after")
    return start_time(
        link.options.get("delay"), datetime.fromisoformat(run_after) if run_after else None
    )
