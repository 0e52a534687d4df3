"""The frequent statements on stand-ins and their child batches. Every database understands this form."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.ledger.statements.table import Table, text
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus

#: The name of the attribute of a connection that holds its statements.
_ATTRIBUTE: Final = "django_jobbatch_stand_in_statements"


class StandInStatements:
    """The compiled statements of one connection. Each returns whether its row was as expected."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._batches = batches = Table(JobBatch, connection)
        self._links = links = Table(BatchedJob, connection)
        b, k = batches.columns, links.columns
        running = (
            f" WHERE {k.id} = %s AND {k.status} = {text(LinkStatus.RUNNING)} AND {k.fence} = %s"
        )
        self._end_claim = (
            f"UPDATE {links.name} SET {k.lease_until} = NULL, {k.claimed_by} = '',"
            f" {k.child_run} = %s{running} AND {k.lease_until} IS NOT NULL"
        )
        self._succeed = (
            f"UPDATE {links.name} SET {k.status} = {text(LinkStatus.SUCCEEDED)},"
            f" {k.lease_until} = NULL, {k.available_at} = NULL, {k.ended_at} = %s{running}"
            f" AND {k.child_run} = %s"
        )
        self._mark_at_rest = (
            f"UPDATE {batches.name} SET {b.version} = {b.version} + 1, {b.at_rest} = %s"
            f" WHERE {b.id} = %s AND {b.version} = %s"
        )

    def end_claim(self, stand_in: BatchedJob, *, child_run: int) -> bool:
        """Write that the child of a claimed stand-in has started, unless the claim is not valid."""
        return self._execute(self._end_claim, [child_run, stand_in.pk, stand_in.fence])

    def succeed(self, stand_in: BatchedJob, *, child_run: int, now: datetime) -> bool:
        """Settle a stand-in as succeeded, if it waits for this run since this claim of it."""
        ended_at = self._links.value("ended_at", now, self._connection)
        return self._execute(self._succeed, [ended_at, stand_in.pk, stand_in.fence, child_run])

    def mark_at_rest(self, batch_id: uuid.UUID, *, version: int) -> bool:
        """Mark a batch as at rest that no transition has changed since this version."""
        key = self._batches.value("id", batch_id, self._connection)
        return self._execute(self._mark_at_rest, [True, key, version])

    def _execute(self, sql: str, params: list[Any]) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return bool(cursor.rowcount)


def stand_in_statements_of(using: str) -> StandInStatements:
    """Return these statements of the connection of this thread to a database."""
    connection = connections[using]
    statements: StandInStatements | None = vars(connection).get(_ATTRIBUTE)
    if statements is None:
        statements = StandInStatements(connection)
        setattr(connection, _ATTRIBUTE, statements)
    return statements
