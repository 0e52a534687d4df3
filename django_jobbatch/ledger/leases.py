"""Writing claims: the fence, the ticket and the lease of links that this transaction may claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby, takewhile
from operator import attrgetter
from typing import Any

from django_jobbatch.ledger.change import Change, Claimant
from django_jobbatch.ledger.statements import statements_of
from django_jobbatch.models import BatchedJob
from django_jobbatch.states import LinkStatus

_fence = attrgetter("fence")


def isolate_lost(links: list[BatchedJob]) -> list[BatchedJob]:
    """Return the links of one claim: a link with a worker loss is claimed alone."""
    if links and links[0].worker_losses:
        return links[:1]
    return list(takewhile(lambda link: not link.worker_losses, links))


def claim(
    claimant: Claimant,
    links: Sequence[BatchedJob],
    *,
    now: datetime,
    status: LinkStatus = LinkStatus.PENDING,
) -> list[BatchedJob]:
    """Claim the links that still have this status, and return them with the columns of the claim."""
    claimant.claimed_at.append(now)
    count = _write_claims(claimant, links, now=now, status=status)
    claimed = [_set_columns(link, claimant, now) for link in links]
    return claimed if count == len(links) else still_held(claimant.using, claimed)


def set_claimed(link: BatchedJob, claimant: Claimant, now: datetime) -> BatchedJob:
    """Claim a link that is not inserted yet, and return it."""
    claimant.claimed_at.append(now)
    return _set_columns(link, claimant, now)


def _set_columns(link: BatchedJob, claimant: Claimant, now: datetime) -> BatchedJob:
    values: dict[str, Any] = {
        "status": LinkStatus.RUNNING,
        "fence": link.fence + 1,
        "claimed_by": claimant.ticket,
        "started_at": now,
        "lease_until": now + claimant.lease,
    }
    vars(link).update(values)
    return link


def still_held(using: str, links: Sequence[BatchedJob]) -> list[BatchedJob]:
    """Return those of these claimed links that their ticket holds by this claim.

    The time of the claim is checked too: RQ may run one ticket twice at the same time, under one
    name.
    """
    if not links:
        return []
    held = dict(
        BatchedJob.objects.using(using)
        .filter(
            pk__in=[link.pk for link in links],
            status=LinkStatus.RUNNING,
            claimed_by__in={link.claimed_by for link in links},
            started_at__in={link.started_at for link in links},
        )
        .values_list("pk", "fence")
    )
    return [link for link in links if held.get(link.pk) == link.fence]


def without_lost_claims(change: Change) -> Change:
    """Return the change of a commit without an answer, with those links that are still claimed by it."""
    return replace(change, claimed=tuple(still_held(change.using, change.claimed)))


def _write_claims(
    claimant: Claimant, links: Sequence[BatchedJob], *, now: datetime, status: LinkStatus
) -> int:
    """Write the claims, by one UPDATE per fence, and return their number. Mostly there is one fence.

    The fence is a guard: a link that was claimed and released since the read may have other attempts
    and a delay.
    """
    count = 0
    for fence, group in groupby(sorted(links, key=_fence), key=_fence):
        count += statements_of(claimant.using).claim(
            [link.pk for link in group],
            status=status,
            fence=fence,
            ticket=claimant.ticket,
            started_at=now,
            lease_until=now + claimant.lease,
        )
    return count
