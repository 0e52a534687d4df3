"""The transaction of one page of a retry."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

from django_jobbatch.db import in_transaction
from django_jobbatch.ledger.change import Change

#: What reopens a page of a batch whose row is locked.
PageOperation: TypeAlias = Callable[..., Change]


class NothingToReopen(Exception):  # not an error: it rolls the transaction back
    """There is nothing to reopen."""


def reopen_in_transaction(
    using: str, batch_id: uuid.UUID, operation: Callable[[], list[Change]]
) -> list[Change]:
    commits: list[list[Change]] = []

    def attempt() -> list[Change]:
        commits.append(operation())
        return commits[-1]

    try:
        return in_transaction(using, attempt)
    except NothingToReopen:
        # Or the commit before got no answer, and has left nothing more to do.
        return commits[-1] if commits else [Change(batch_id=batch_id, using=using)]
