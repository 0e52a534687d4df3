"""The ledger against RQ: what differs is found and repaired.

Whatever dies, the ledger knows what should be. Each rule finds one way in which a death shows, and
repairs it by the ledger's own guarded transitions, so any number of reconcilers at once, beside
workers at work, is harmless.
"""

from __future__ import annotations

from django_jobbatch.reconcile.reconciler import reconcile, reconcile_ticket
from django_jobbatch.reconcile.repairs import Repair, RepairKind

__all__ = ["Repair", "RepairKind", "reconcile", "reconcile_ticket"]
