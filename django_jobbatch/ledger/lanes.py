"""Skipping the links that follow in a lane, or making the next one due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import reduce
from operator import or_

from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.ledger import callbacks
from django_jobbatch.ledger.statements import Unreadable, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet
from django_jobbatch.schedule import read_moment, start_time
from django_jobbatch.specs.validation import validate_delay
from django_jobbatch.states import OPEN, Kind, LinkStatus


def skip_following(transition: Transition, stopped: Iterable[BatchedJob]) -> None:
    """Settle the links that follow these in their lanes as skipped, and count them.

    In a stopping batch the sweep cancels them instead.
    """
    batch = transition.batch
    links = list(stopped)
    if batch.status not in OPEN or not batch.has_lanes or not links:
        return
    waiting = waiting_after(transition.lane_links(), links)
    if batch.child_batches:
        stand_ins = waiting.exclude(child=None).select_for_update()
        transition.add_children_to_stop(stand_ins.values_list("child_id", flat=True))
    skipped = waiting.update(status=LinkStatus.SKIPPED, ended_at=timezone.now())
    if skipped:
        transition.write(
            pending_jobs=batch.pending_jobs - skipped, skipped_jobs=batch.skipped_jobs + skipped
        )


def waiting_after(links: BatchedJobQuerySet, stopped: Iterable[BatchedJob]) -> BatchedJobQuerySet:
    """Return the waiting links of a batch that follow one of these in its lane."""
    positions = [Q(lane=link.lane, position__gt=link.position) for link in stopped]
    return links.filter(reduce(or_, positions), status=LinkStatus.WAITING)


def make_next_due(transition: Transition, succeeded: Iterable[BatchedJob]) -> None:
    """Make the links due that follow these in their lanes, unless the batch is stopping."""
    batch, links = transition.batch, list(succeeded)
    if not (batch.has_lanes and batch.pending_jobs and links) or batch.status not in OPEN:
        return
    if len(links) == 1:
        with suppress(Unreadable):
            _make_following_due(transition, links[0])
            return
    following = transition.lane_links().filter(
        lane=OuterRef("lane"), position__gt=OuterRef("position")
    )
    # After a retry, some of the following links may have succeeded already.
    following = following.exclude(status=LinkStatus.SUCCEEDED)
    first = following.order_by("position").values("pk")[:1]
    # By ids alone: PostgreSQL without statistics would read the whole batch.
    ids = transition.links_by_id(link.pk for link in links)
    found = ids.values_list(Subquery(first), flat=True)
    # The last links of lanes are dropped here: in SQL the subquery would run twice.
    _make_due(transition, [pk for pk in found if pk is not None])


def _make_following_due(transition: Transition, succeeded: BatchedJob) -> None:
    """Make the link due that follows this one in its lane; claim it if the ticket starts it next."""
    following = statements_of(transition.using).following(succeeded)
    if following is None or following.status != LinkStatus.WAITING:
        return
    at = _start_time(following)
    is_next = transition.batch.kind == Kind.CHAIN and at is None
    if is_next and callbacks.can_claim_jobs(transition, following.queue):
        transition.claim([following], timezone.now(), status=LinkStatus.WAITING)
        return
    statements_of(transition.using).make_due(following.pk, at)
    if at is None:
        transition.add_due(following.queue)
    else:
        transition.record_next_event([at])


def start_delays(transition: Transition, delayed: Iterable[BatchedJob]) -> None:
    """Start the delays of these pending links now."""
    by_start = _by_start_time(delayed)
    for at, group in by_start.items():
        pending = transition.links_by_id(link.pk for link in group)
        pending.filter(status=LinkStatus.PENDING).update(available_at=at)
    transition.record_next_event(at for at in by_start if at)


def _make_due(transition: Transition, pks: Sequence[int]) -> None:
    if not pks:
        return
    found = list(
        transition.links_by_id(sorted(pks))
        .filter(status=LinkStatus.WAITING)
        .select_for_update()
        .order_by("pk")
        .only("queue", "options")
    )
    by_start = _by_start_time(found)
    for at, group in by_start.items():
        waiting = transition.links_by_id(link.pk for link in group)
        waiting.filter(status=LinkStatus.WAITING).update(status=LinkStatus.PENDING, available_at=at)
    for link in by_start.get(None, ()):
        transition.add_due(link.queue)
    transition.record_next_event(at for at in by_start if at)


def _by_start_time(links: Iterable[BatchedJob]) -> dict[datetime | None, list[BatchedJob]]:
    by_start: dict[datetime | None, list[BatchedJob]] = defaultdict(list)
    for link in links:
        by_start[_start_time(link)].append(link)
    return by_start


def _start_time(link: BatchedJob) -> datetime | None:
    """Return the start time of a link whose turn comes now; None if it may start at once."""
    try:
        delay = validate_delay(link.options.get("delay"))
    except InvalidOption:  # no signature covers stored options
        delay = None
    return start_time(delay, read_moment(link.options.get("run_after")))
