"""The hot statements of MariaDB and MySQL."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.ledger.statements.base import Statements
from django_jobbatch.models.job import CLAIM_INDEX


class MySQLStatements(Statements):
    """UPDATE, then SELECT. A claim names its index.

    MariaDB locks every row that it reads, not only the rows that it returns. By another index it
    locks links that other tickets want, in an order that can deadlock with a sweep.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.claim_hint = f" FORCE INDEX ({connection.ops.quote_name(CLAIM_INDEX)})"
        super().__init__(connection)
