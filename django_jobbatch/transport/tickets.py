"""Tickets: their arguments and their ids."""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

#: The function of the RQ job. The runner is in a higher layer, so this is its path.
TICKET_FUNCTION = "django_jobbatch.runner.work"
#: The prefix of the ids of all tickets.
PREFIX = "jb-"

#: Random digits of a suffix. The last digit is the share of the ticket.
_RANDOM_DIGITS: Final = 7
#: The largest share in a suffix. A first claim is for fewer jobs.
_MAX_SHARE: Final = 15

_SUFFIX = re.compile(rb"[0-9a-f]{%d}" % (_RANDOM_DIGITS + 1))
_TICKET_ID = re.compile(PREFIX.encode() + rb"[0-9a-f]{32}-" + _SUFFIX.pattern)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The values that all tickets of one batch on one queue have in common.

    `timeout` is RQ's, in seconds; -1 means no limit. `next_event_at` is that of the batch.
    """

    batch_id: uuid.UUID
    queue: str
    using: str
    timeout: int
    description: str
    next_event_at: datetime | None = None

    @property
    def args(self) -> tuple[str, str, str]:
        """The arguments of the RQ job, in types that every serializer accepts."""
        return str(self.batch_id), self.queue, self.using


class OtherTickets(NamedTuple):
    """The other tickets of the batch, as a ticket finds them when it starts.

    `waiting` is the number of those that wait in its queue; None if it is not known. `share` is the
    number of jobs that this ticket claims first, because others were sent with it; None if it was
    sent alone.
    """

    waiting: int | None = None
    share: int | None = None


UNKNOWN_TICKETS: Final = OtherTickets()


def new_id(batch_id: uuid.UUID, share: int = 0) -> str:
    """Return a new ticket id. RQ breaks if one id is sent twice.

    `share` is the number of jobs that the ticket claims first, since other tickets are sent with it; 0
    without others.
    """
    return id_of(batch_id, f"{random_digits()}{min(share, _MAX_SHARE):x}")


def random_digits() -> str:
    """Return the digits by which a ticket id differs from all others of its batch."""
    return secrets.token_hex((_RANDOM_DIGITS + 1) // 2)[:_RANDOM_DIGITS]


def share_of(ticket_id: str) -> int | None:
    """Return the number of jobs that this ticket claims first; None if it was sent without others.

    It is not known of a ticket that was sent by hand, with an id of its own.
    """
    if parse_id(ticket_id.encode()) is None:
        return None
    return int(ticket_id[-1], 16) or None


def id_of(batch_id: uuid.UUID, suffix: str) -> str:
    """Return the id of the ticket of this batch with this suffix."""
    return f"{PREFIX}{batch_id.hex}-{suffix}"


def ticket_suffix(ticket_id: str) -> str:
    """Return the part of a ticket id that is unique within the batch."""
    return ticket_id.rpartition("-")[2]


def parse_id(entry: bytes) -> str | None:
    """Return the id of the ticket that this entry of a list is, or None for another job."""
    return entry.decode() if _TICKET_ID.fullmatch(entry) else None


def parse_suffix(member: bytes) -> str | None:
    """Return the suffix that this member of a registry is, or None if it is none."""
    return member.decode() if _SUFFIX.fullmatch(member) else None


def batch_of(ticket_id: str) -> uuid.UUID:
    """Return the id of the batch of this ticket."""
    return uuid.UUID(ticket_id.removeprefix(PREFIX).rpartition("-")[0])
