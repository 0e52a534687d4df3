"""The hot statements, executed in the form that every database understands.

A subclass changes the form for one kind of database.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from django_jobbatch.db import is_lost
from django_jobbatch.ledger.statements.compiled import CompiledText
from django_jobbatch.ledger.statements.joined import READ_ERRORS, Result, Statement, execute
from django_jobbatch.ledger.statements.table import text
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus


class Unreadable(Exception):  # not an error: the ORM reads fewer columns, or the rows one by one
    """A row of a statement cannot be read, which hides the others: a date after 9999, for example."""


class LinkOutcome(NamedTuple):
    """The columns that a settlement writes to claimed links with one fence."""

    status: LinkStatus
    fence: int
    attempts: int
    losses: int
    available_at: datetime | None
    ended_at: datetime | None


class SettledCallback(NamedTuple):
    """The row of the batch, None if deleted; whether the claim was valid; and the callback lane then.

    The lane is None if a row of it cannot be read.
    """

    batch: JobBatch | None
    was_valid: bool
    lane: list[BatchedJob] | None


class Statements(CompiledText):
    """The statements of one connection."""

    # Batch rows

    def read(self, batch_id: uuid.UUID) -> JobBatch | None:
        """Return a batch row; None if deleted."""
        key = self._batches.value("id", batch_id, self._connection)
        return self._batch_of(
            execute(self._connection, Statement(self._read_batch, [key], returns=True))
        )

    def lock(self, batch_id: uuid.UUID) -> JobBatch | None:
        """Write `version + 1` to lock a batch row, and return the row; None if deleted."""
        return self._batch_of(execute(self._connection, *self._locking(batch_id)))

    def count(
        self, batch_id: uuid.UUID, *, settled: int, failed: int, cancelled: int
    ) -> JobBatch | None:
        """Lock a batch row and move its counters; None if fewer jobs are pending, or it is deleted."""
        counting = self._counting(batch_id, settled=settled, failed=failed, cancelled=cancelled)
        return self._batch_of(execute(self._connection, *counting))

    def start(self, batch_id: uuid.UUID, now: datetime) -> bool:
        """Write that a batch is running, and return whether it was pending."""
        (started,) = execute(self._connection, self._starting(batch_id, now))
        return bool(started.matched)

    def writing(self, batch_id: uuid.UUID, values: dict[str, Any]) -> Statement:
        """Return the statement that writes columns of a batch row which its transaction has locked."""
        table = self._batches
        sql = f"UPDATE {table.name} SET {table.assignments(values)} WHERE {table.columns.id} = %s"
        return Statement(sql, table.values({**values, "id": batch_id}, self._connection))

    # Links

    def settle(self, pks: Sequence[int], outcome: LinkOutcome) -> int:
        """Write the outcome of claimed links, and return the number of rows."""
        (settled,) = execute(self._connection, self._settling(pks, outcome))
        return settled.matched

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

    # Several statements together

    def start_and_read_due(
        self, batch_id: uuid.UUID, queue: str, now: datetime, *, limit: int
    ) -> tuple[bool, list[tuple[BatchedJob, int | None]] | None]:
        """Do as `start`, then as `due_jobs`; without the jobs if a row cannot be read."""
        key, at = self._key_and_moment(batch_id, now)
        due = Statement(self._due_jobs, [key, key, queue, at, 0, limit], returns=True)
        started, found = execute(self._connection, self._starting(batch_id, now), due)
        with suppress(Unreadable):
            return bool(started.matched), self._links_of(found)
        return bool(started.matched), None

    def count_and_settle(
        self, batch_id: uuid.UUID, pks: Sequence[int], outcome: LinkOutcome
    ) -> JobBatch | None:
        """Do as `count`, for links that succeeded, then as `settle`; None if a link was not settled.

        Then the caller must roll back.
        """
        counting = self._counting(batch_id, settled=len(pks), failed=0, cancelled=0)
        *counted, settled = execute(self._connection, *counting, self._settling(pks, outcome))
        return self._batch_of(counted) if settled.matched == len(pks) else None

    def settle_callback(self, link: BatchedJob, outcome: LinkOutcome) -> SettledCallback:
        """Do as `lock`, then as `settle` for one callback, then as `callback_lane`."""
        *locked, settled, lane = execute(
            self._connection,
            *self._locking(link.batch_id),
            self._settling([link.pk], outcome),
            self._reading_lane(link.batch_id),
        )
        batch = self._batch_of(locked)
        with suppress(Unreadable):
            return SettledCallback(
                batch, bool(settled.matched), [each for each, _ in self._links_of(lane)]
            )
        return SettledCallback(batch, bool(settled.matched), None)

    # Statements before they are sent

    def _locking(self, batch_id: uuid.UUID) -> list[Statement]:
        key = self._batches.value("id", batch_id, self._connection)
        return self._updating(self._lock, [key], key)

    def _counting(
        self, batch_id: uuid.UUID, *, settled: int, failed: int, cancelled: int
    ) -> list[Statement]:
        key = self._batches.value("id", batch_id, self._connection)
        return self._updating(self._count, [settled, failed, cancelled, key, settled], key)

    def _starting(self, batch_id: uuid.UUID, now: datetime) -> Statement:
        named = {"started_at": now, "id": batch_id}
        return Statement(self._start, self._batches.values(named, self._connection))

    def _settling(self, pks: Sequence[int], outcome: LinkOutcome) -> Statement:
        k = self._links.columns
        condition, ids = self.among(pks)
        moments = self._moments(available_at=outcome.available_at, ended_at=outcome.ended_at)
        return Statement(
            f"{self._settle} WHERE {condition} AND {k.status} = {text(LinkStatus.RUNNING)}"
            f" AND {k.fence} = %s",
            [outcome.status.value, *moments, outcome.attempts, outcome.losses, *ids, outcome.fence],
        )

    def _reading_lane(self, batch_id: uuid.UUID) -> Statement:
        key = self._batches.value("id", batch_id, self._connection)
        return Statement(self._callback_lane, [key], returns=True)

    def _updating(self, sql: str, params: list[Any], key: Any) -> list[Statement]:
        """Return what updates one batch row and reads it."""
        return [Statement(sql, params), Statement(self._read_batch, [key], returns=True)]

    def _batch_of(self, results: Sequence[Result]) -> JobBatch | None:
        """Return the row of `_updating`; None if no row matched."""
        if len(results) > 1 and not results[0].matched:
            return None
        rows = results[-1].read()
        return self._batches.instance(rows[0], self._connection) if rows else None

    # Reading and writing

    def _execute(self, sql: str, params: list[Any]) -> int:
        (result,) = execute(self._connection, Statement(sql, params))
        return result.matched

    def _read_links(self, sql: str, params: list[Any]) -> list[tuple[BatchedJob, Any]]:
        """Return links, each with the last value of its row.

        Raises:
            Unreadable: a value cannot be read. The transaction is as before.
        """
        (result,) = execute(self._connection, Statement(sql, params, returns=True))
        return self._links_of(result)

    def _links_of(self, result: Result) -> list[tuple[BatchedJob, Any]]:
        connection = self._connection
        try:
            return [(self._links.instance(row, connection), row[-1]) for row in result.read()]
        except READ_ERRORS as error:
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

    def _updating(self, sql: str, params: list[Any], key: Any) -> list[Statement]:
        return [Statement(f"{sql} RETURNING {self._batches.all_columns}", params, returns=True)]
