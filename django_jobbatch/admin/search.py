"""What people type into a search box, as what the database can look up."""

from __future__ import annotations

import re
import uuid

#: A ticket of a batch, as RQ's own pages and logs name it: jb-<batch>-<random>.
_TICKET = re.compile(r"jb-([0-9a-f]{32})-", re.IGNORECASE)
_HYPHENS_BEFORE = (8, 12, 16, 20)


def as_uuid(text: str) -> uuid.UUID | None:
    """The whole id in `text`, with hyphens or without; None if it is none."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def as_number(text: str) -> int | None:
    """The id of a job in `text`; None if it is none, or more than any database has."""
    found = re.fullmatch(r"\s*([0-9]{1,18})\s*", text)
    return int(found[1]) if found else None


def id_prefix(text: str) -> str | None:
    """The beginning of a batch's id in `text`, with the hyphens that it has; None if it is none.

    Databases that know UUIDs compare them with their hyphens, and Django takes them out for the
    others. The id of a ticket stands for its batch.
    """
    text = text.strip()
    if ticket := _TICKET.match(text):
        text = ticket[1]
    digits = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        return None
    starts = (0, *_HYPHENS_BEFORE)
    ends = (*_HYPHENS_BEFORE, 32)
    groups = (digits[start:end] for start, end in zip(starts, ends, strict=True))
    return "-".join(filter(None, groups))
