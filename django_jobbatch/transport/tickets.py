"""A ticket: what it says, and the id that each sending of it has."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass

#: What RQ calls. It stands below the runner, so it knows it by name only, as RQ does.
TICKET_FUNCTION = "django_jobbatch.runner.work"
#: What the ids of all tickets begin with.
PREFIX = "jb-"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What every ticket of one batch on one queue says.

    `timeout` is the seconds RQ gives it, -1 for no limit.
    """

    batch_id: uuid.UUID
    queue: str
    using: str
    timeout: int
    description: str

    @property
    def args(self) -> tuple[str, str, str]:
        """The arguments of the RQ job, in types that every serializer takes."""
        return str(self.batch_id), self.queue, self.using


def new_id(batch_id: uuid.UUID) -> str:
    """An id for one sending: an id sent twice breaks RQ."""
    return id_of(batch_id, secrets.token_hex(4))


def id_of(batch_id: uuid.UUID, number: str) -> str:
    """The id of the ticket that has this number within its batch."""
    return f"{PREFIX}{batch_id.hex}-{number}"


def ticket_suffix(ticket_id: str) -> str:
    """What tells this ticket from the others of its batch."""
    return ticket_id.rpartition("-")[2]


def belongs_to(ticket_id: str, batch_id: uuid.UUID) -> bool:
    """Whether this ticket was sent for this batch."""
    return ticket_id == id_of(batch_id, ticket_suffix(ticket_id))
