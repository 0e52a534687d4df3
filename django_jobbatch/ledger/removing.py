"""Deleting the rows of a batch."""

from __future__ import annotations

import uuid

from django_jobbatch.ledger import rows
from django_jobbatch.ledger.closing import PAGE
from django_jobbatch.ledger.transactions import atomically


def remove(using: str, batch_id: uuid.UUID) -> tuple[int, int]:
    """Delete the links of a batch, page by page, then its row; how many of each.

    What still runs finds its batch gone, and its outcome changes nothing.
    """
    links = 0
    more = True
    while more:
        removed, more = atomically(using, lambda: _remove_page(using, batch_id))
        links += removed
    return links, atomically(using, lambda: _remove_batch(using, batch_id))


def _remove_page(using: str, batch_id: uuid.UUID) -> tuple[int, bool]:
    rows.lock(using, batch_id)
    page = rows.links(using, batch_id).order_by("pk").values_list("pk", flat=True)[:PAGE]
    removed, _ = rows.links(using, batch_id).filter(pk__in=list(page)).delete()
    return removed, removed == PAGE


def _remove_batch(using: str, batch_id: uuid.UUID) -> int:
    """Delete the batch row, with callbacks that were drawn since the last page."""
    rows.lock(using, batch_id)
    rows.links(using, batch_id).delete()
    removed, _ = rows.batches(using).filter(pk=batch_id).delete()
    return removed
