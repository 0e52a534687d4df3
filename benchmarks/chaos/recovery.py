"""Recovery at the end of a phase: reconcile, as a schedule calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from django_jobbatch.reconcile import reconcile

ALIAS = "default"


def reconcile_concurrently(count: int) -> None:
    """Reconcile in this many threads at once."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(_reconcile) for _ in range(count)]:
            future.result()


def _reconcile() -> None:
    try:
        for _ in reconcile(ALIAS):
            pass
    finally:
        connections.close_all()
