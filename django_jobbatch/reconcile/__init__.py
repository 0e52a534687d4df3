"""Reconcile: comparing the ledger with RQ and repairing the differences.

The ledger has the correct state, whatever process dies. Each rule finds one effect of a death, and
repairs it by a guarded transition of the ledger or by tickets. So several processes may reconcile at
the same time, beside running tickets.
"""

from __future__ import annotations

from django_jobbatch.reconcile.databases import (
    Databases,
    database_aliases,
    default_database,
    find_databases,
)
from django_jobbatch.reconcile.reconciler import reconcile, reconcile_ticket
from django_jobbatch.reconcile.repairs import Repair, RepairKind

__all__ = [
    "Databases",
    "Repair",
    "RepairKind",
    "database_aliases",
    "default_database",
    "find_databases",
    "reconcile",
    "reconcile_ticket",
]
