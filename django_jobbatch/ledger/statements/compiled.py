"""The text of the hot statements in the form that every database understands: an UPDATE, then a SELECT.

Each guard is a condition on columns of the updated row itself. A subclass changes the form for one
kind of database.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.ledger.statements.table import Table, text, texts
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import (
    ACTIVE,
    CALLBACK_LANE,
    CALLBACKS,
    UNSETTLED,
    BatchStatus,
    LinkStatus,
    Role,
)

#: The numbers of ids in one statement. A smaller group repeats its last id, so the number of
#: different statements is bounded.
GROUP_SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500)

#: A larger group is rounded up to a multiple of this.
_LARGE_GROUP: Final = 1000


class CompiledText:
    """The compiled text of the statements of one connection."""

    #: Between the table and the WHERE of a claim.
    claim_hint = ""
    #: At the end of a SELECT that locks its rows.
    for_update = " FOR UPDATE"
    #: At the end of a SELECT that locks its rows and skips those that others have locked.
    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._batches = batches = Table(JobBatch, connection)
        self._links = links = Table(BatchedJob, connection)
        if not connection.features.has_select_for_update_skip_locked:
            self.skip_locked = self.for_update
        b, k = batches.columns, links.columns
        locked = f"UPDATE {batches.name} SET {b.version} = {b.version} + 1"
        by_key = f" WHERE {b.id} = %s"
        self._lock = locked + by_key
        self._count = (
            f"{locked}, {b.pending_jobs} = {b.pending_jobs} - %s,"
            f" {b.failed_jobs} = {b.failed_jobs} + %s,"
            f" {b.cancelled_jobs} = {b.cancelled_jobs} + %s"
            f"{by_key} AND {b.pending_jobs} >= %s"
        )
        self._start = (
            f"{locked}, {b.status} = {text(BatchStatus.RUNNING)}, {b.started_at} = %s"
            f"{by_key} AND {b.status} = {text(BatchStatus.PENDING)}"
        )
        self._read_batch = f"SELECT {batches.all_columns} FROM {batches.name}{by_key}"
        self._settle = (
            f"UPDATE {links.name} SET {k.status} = %s, {k.lease_until} = NULL,"
            f" {k.available_at} = %s, {k.ended_at} = %s, {k.attempts} = {k.attempts} + %s,"
            f" {k.worker_losses} = {k.worker_losses} + %s"
        )
        self._claim = (
            f"UPDATE {links.name} SET {k.status} = {text(LinkStatus.RUNNING)}, {k.fence} = %s,"
            f" {k.claimed_by} = %s, {k.started_at} = %s, {k.lease_until} = %s"
        )
        self._make_due = (
            f"UPDATE {links.name} SET {k.status} = {text(LinkStatus.PENDING)},"
            f" {k.available_at} = %s WHERE {k.id} = %s"
            f" AND {k.status} = {text(LinkStatus.WAITING)}"
        )
        run = (
            f"(SELECT {b.run} FROM {batches.name} WHERE {b.id} = %s"
            f" AND {b.status} IN ({texts(ACTIVE)}))"
        )
        due = (
            f" FROM {links.name}{self.claim_hint} WHERE {k.batch_id} = %s AND {k.queue} = %s"
            f" AND {k.status} = {text(LinkStatus.PENDING)}"
            f" AND ({k.available_at} IS NULL OR {k.available_at} <= %s)"
        )
        first = f" ORDER BY {k.id} LIMIT %s{self.skip_locked}"
        # Jobs are selected by their run, not by their role: an index starts with batch and role, and
        # PostgreSQL without statistics uses it and sorts the whole batch for each claim.
        jobs = f"{due} AND {k.run} = 0 AND {k.id} > %s{first}"
        # The run is read by the same statement as the links, so a retry is seen whole or not at all.
        self._due_jobs = f"SELECT {links.all_columns}, {run}{jobs}"
        self._due_jobs_of_locked = f"SELECT {links.all_columns}{jobs}"
        self._due_callback = (
            f"SELECT {links.all_columns}{due} AND {k.run} >= 1 AND {k.role} IN ({texts(CALLBACKS)})"
            f"{first}"
        )
        self._following = (
            f"SELECT {links.all_columns} FROM {links.name} WHERE {k.batch_id} = %s"
            f" AND {k.role} = {text(Role.JOB)} AND {k.run} = 0 AND {k.lane} = %s"
            f" AND {k.position} > %s AND {k.status} <> {text(LinkStatus.SUCCEEDED)}"
            f" ORDER BY {k.position} LIMIT 1{self.for_update}"
        )
        self._callback_lane = (
            f"SELECT {links.all_columns} FROM {links.name} WHERE {k.batch_id} = %s"
            f" AND {k.role} IN ({texts(CALLBACK_LANE)}) AND {k.status} IN ({texts(UNSETTLED)})"
            f" ORDER BY {k.run}, {k.position}{self.for_update}"
        )

    def among(self, pks: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition that a link has one of these ids, and its parameters."""
        size = next((size for size in GROUP_SIZES if size >= len(pks)), None)
        if size is None:
            size = -(-len(pks) // _LARGE_GROUP) * _LARGE_GROUP
        marks = ", ".join(repeat("%s", size))
        return f"{self._links.columns.id} IN ({marks})", [
            *pks,
            *repeat(pks[-1], size - len(pks)),
        ]
