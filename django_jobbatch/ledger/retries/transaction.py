"""The transaction of one chunk of a retry."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias

from django_jobbatch.db import in_transaction
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries.reset import BatchRetry

#: Reopens one chunk of a locked batch.
ChunkOperation: TypeAlias = Callable[[BatchRetry], Change]


class NothingToReopen(Exception):  # not an error: it rolls the transaction back
    """No link of the batch is retryable."""


def reopen_in_transaction(
    using: str, batch_id: uuid.UUID, operation: Callable[[], list[Change]]
) -> list[Change]:
    """Run `operation` in a transaction; if nothing is retryable, return a change without a batch."""
    commits: list[list[Change]] = []

    def attempt() -> list[Change]:
        commits.append(operation())
        return commits[-1]

    try:
        return in_transaction(using, attempt)
    except NothingToReopen:
        # Or an earlier commit without an answer has reset everything.
        return commits[-1] if commits else [Change.of_deleted(batch_id, using)]
