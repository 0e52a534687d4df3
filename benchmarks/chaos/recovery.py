"""What brings a round to its end: reconcile, as a schedule would call it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from django_jobbatch.reconcile import reconcile

ALIAS = "default"


def reconcile_by(count: int) -> None:
    """Have so many reconcilers go through the ledger at once."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(_reconcile) for _ in range(count)]:
            done.result()


def _reconcile() -> None:
    try:
        for _ in reconcile(ALIAS):
            pass
    finally:
        connections.close_all()
