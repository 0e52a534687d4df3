"""The hot statements of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_jobbatch.ledger.statements.base import ReturningStatements


class PostgreSQLStatements(ReturningStatements):
    """UPDATE … RETURNING, and one array for all ids."""

    def among(self, pks: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition that a link has one of these ids, and its parameters."""
        # As text: psycopg reads a list several times to find its type and to write it.
        return f"{self._links.columns.id} = ANY(%s::bigint[])", [f"{{{','.join(map(str, pks))}}}"]
