"""Conversion of search terms to ids that the database can find."""

from __future__ import annotations

import re
import uuid

from django_jobbatch.specs.validation import MAX_TEXT_LENGTH
from django_jobbatch.text import is_storable

#: Id of a ticket, as in the pages and logs of RQ: jb-<batch>-<random>.
_TICKET = re.compile(r"jb-([0-9a-f]{32})-", re.IGNORECASE)
_HYPHENS_BEFORE = (8, 12, 16, 20)


def is_searchable(text: str) -> bool:
    """Return whether a name can contain `text`.

    Each word is one condition of the query, and SQLite accepts at most 1,000.
    """
    return len(text) <= MAX_TEXT_LENGTH and is_storable(text)


def as_uuid(text: str) -> uuid.UUID | None:
    """Return the UUID that `text` contains, with or without hyphens; None if it contains none."""
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def as_number(text: str) -> int | None:
    """Return the id of a job that `text` contains; None if it is no number or too large."""
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*", text)
    return int(match[1]) if match else None


def id_prefix(text: str) -> str | None:
    """Return the first digits of a batch id in `text`, with their hyphens; None if it has none.

    Databases with a UUID type compare with hyphens; for the others Django drops them. The id of a
    ticket gives the id of its batch.
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
