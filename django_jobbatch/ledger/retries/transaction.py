"""The transaction of one chunk of a retry."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
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
    """Run `operation` in a transaction, and return its changes.

    An attempt whose commit got no answer may be committed, so its changes are returned too, before
    those of the repeated one. If nothing is retryable, a change without a batch is returned.
    """
    attempts: list[list[Change]] = []

    def attempt() -> None:
        attempts.append(operation())

    with suppress(NothingToReopen):  # or an earlier attempt has reset everything
        in_transaction(using, attempt)
    return list(_counted_once(chain.from_iterable(attempts))) or [
        Change.of_deleted(batch_id, using)
    ]


def _counted_once(changes: Iterable[Change]) -> Iterator[Change]:
    """Count a job that several attempts have reset only in the first of them."""
    counted = 0
    for change in changes:
        yield replace(change, rerun_jobs=max(0, change.rerun_jobs - counted))
        counted = max(counted, change.rerun_jobs)
