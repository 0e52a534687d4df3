"""The hot statements in the form that every database understands: an UPDATE, then a SELECT.

Each guard is a condition on columns of the updated row itself. A subclass changes the form for one
kind of database.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from itertools import repeat
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.db import is_lost
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


class Unreadable(Exception):  # not an error: the ORM reads fewer columns, or the rows one by one
    """A row of a statement cannot be read, which hides the others: a date after 9999, for example."""


#: The numbers of ids in one statement. A smaller group repeats its last id, so the number of
#: different statements is bounded.
GROUP_SIZES: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500)

#: A larger group is rounded up to a multiple of this.
_LARGE_GROUP: Final = 1000


class Statements:
    """The compiled statements of one connection."""

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

    # Batch rows

    def read(self, batch_id: uuid.UUID) -> JobBatch | None:
        """Return a batch row; None if deleted."""
        key = self._batches.value("id", batch_id, self._connection)
        return self._batch(self._read_batch, [key])

    def lock(self, batch_id: uuid.UUID) -> JobBatch | None:
        """Write `version + 1` to lock a batch row, and return the row; None if deleted."""
        key = self._batches.value("id", batch_id, self._connection)
        return self._update_batch(self._lock, [key], key)

    def count(
        self, batch_id: uuid.UUID, *, settled: int, failed: int, cancelled: int
    ) -> JobBatch | None:
        """Lock a batch row and move its counters; None if fewer jobs are pending, or it is deleted."""
        key = self._batches.value("id", batch_id, self._connection)
        return self._update_batch(self._count, [settled, failed, cancelled, key, settled], key)

    def start(self, batch_id: uuid.UUID, now: datetime) -> bool:
        """Write that a batch is running, and return whether it was pending."""
        key = self._batches.value("id", batch_id, self._connection)
        started_at = self._batches.value("started_at", now, self._connection)
        return bool(self._execute(self._start, [started_at, key]))

    def write(self, batch_id: uuid.UUID, values: dict[str, Any]) -> None:
        """Write columns of a batch row that this transaction has locked."""
        table = self._batches
        sql = f"UPDATE {table.name} SET {table.assignments(values)} WHERE {table.columns.id} = %s"
        self._execute(sql, table.values({**values, "id": batch_id}, self._connection))

    # Links

    def settle(
        self,
        pks: Sequence[int],
        *,
        status: LinkStatus,
        fence: int,
        attempts: int,
        losses: int,
        available_at: datetime | None,
        ended_at: datetime | None,
    ) -> int:
        """Write the outcome of claimed links with one fence, and return the number of rows."""
        k = self._links.columns
        condition, ids = self.among(pks)
        moments = self._moments(available_at=available_at, ended_at=ended_at)
        return self._execute(
            f"{self._settle} WHERE {condition} AND {k.status} = {text(LinkStatus.RUNNING)}"
            f" AND {k.fence} = %s",
            [status.value, *moments, attempts, losses, *ids, fence],
        )

    def claim(
        self,
        pks: Sequence[int],
        *,
        status: LinkStatus,
        fence: int,
        ticket: str,
        started_at: datetime,
        lease_until: datetime,
    ) -> int:
        """Claim links that have this status and this fence, and return the number of rows."""
        k = self._links.columns
        condition, ids = self.among(pks)
        moments = self._moments(started_at=started_at, lease_until=lease_until)
        return self._execute(
            f"{self._claim} WHERE {condition} AND {k.status} = {text(status)} AND {k.fence} = %s",
            [fence + 1, ticket, *moments, *ids, fence],
        )

    def make_due(self, pk: int, available_at: datetime | None) -> int:
        """Make a waiting link due, and return the number of rows."""
        return self._execute(self._make_due, [*self._moments(available_at=available_at), pk])

    def due_jobs(
        self, batch_id: uuid.UUID, queue: str, now: datetime, *, after: int, limit: int
    ) -> list[tuple[BatchedJob, int | None]]:
        """Lock and return due jobs by id, each with the run of the batch; None if it is not active."""
        key, at = self._key_and_moment(batch_id, now)
        return self._read_links(self._due_jobs, [key, key, queue, at, after, limit])

    def due_jobs_of_locked(
        self, batch_id: uuid.UUID, queue: str, now: datetime, *, after: int, limit: int
    ) -> list[BatchedJob]:
        """Lock and return due jobs by id, of a batch whose row this transaction has locked."""
        key, at = self._key_and_moment(batch_id, now)
        rows = self._read_links(self._due_jobs_of_locked, [key, queue, at, after, limit])
        return [link for link, _ in rows]

    def due_callbacks(
        self, batch_id: uuid.UUID, queue: str, now: datetime, *, limit: int
    ) -> list[BatchedJob]:
        """Lock and return due callbacks by id."""
        key, at = self._key_and_moment(batch_id, now)
        rows = self._read_links(self._due_callback, [key, queue, at, limit])
        return [link for link, _ in rows]

    def following(self, link: BatchedJob) -> BatchedJob | None:
        """Lock and return the first link after this one in its lane that has not succeeded.

        Raises:
            Unreadable: a value of the link cannot be read. The transaction is as before.
        """
        key = self._batches.value("id", link.batch_id, self._connection)
        rows = self._read_links(self._following, [key, link.lane, link.position])
        return rows[0][0] if rows else None

    def callback_lane(self, batch_id: uuid.UUID) -> list[BatchedJob]:
        """Lock and return the unsettled callbacks of the callback lane, in their order."""
        key = self._batches.value("id", batch_id, self._connection)
        return [link for link, _ in self._read_links(self._callback_lane, [key])]

    # Differences between databases

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

    def _update_batch(self, sql: str, params: list[Any], key: Any) -> JobBatch | None:
        """Update one batch row and return it; None if no row matched."""
        return self._batch(self._read_batch, [key]) if self._execute(sql, params) else None

    def _batch(self, sql: str, params: list[Any]) -> JobBatch | None:
        """Return the batch row that a statement returns; None without one."""
        rows = self._read(sql, params)
        return self._batches.instance(rows[0], self._connection) if rows else None

    # Execution

    def _execute(self, sql: str, params: list[Any]) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return int(cursor.rowcount)

    def _read(self, sql: str, params: list[Any]) -> list[Sequence[Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    def _read_links(self, sql: str, params: list[Any]) -> list[tuple[BatchedJob, Any]]:
        """Return links, each with the last value of its row.

        Raises:
            Unreadable: a value cannot be read. The transaction is as before.
        """
        connection = self._connection
        try:
            rows = self._read(sql, params)
            return [(self._links.instance(row, connection), row[-1]) for row in rows]
        except Exception as error:
            if is_lost(error, connection.alias):
                raise
            raise Unreadable from error

    def _moments(self, **named: datetime | None) -> list[Any]:
        return self._links.values(named, self._connection)

    def _key_and_moment(self, batch_id: uuid.UUID, now: datetime) -> tuple[Any, Any]:
        key = self._batches.value("id", batch_id, self._connection)
        return key, self._links.value("available_at", now, self._connection)


class ReturningStatements(Statements):
    """The statements of a database whose UPDATE returns the rows that it wrote."""

    def _update_batch(self, sql: str, params: list[Any], key: Any) -> JobBatch | None:
        return self._batch(f"{sql} RETURNING {self._batches.all_columns}", params)
