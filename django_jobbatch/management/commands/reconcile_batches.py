"""reconcile_batches: compare batches with RQ, and repair the differences."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error

from django_jobbatch.management.base import ID_HELP, BatchCommand, database_option
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.reconcile import Repair, find_databases, reconcile


class Command(BatchCommand):
    """Reconciles batches."""

    help = (
        "Compares batches with RQ and repairs the differences: jobs of dead workers, missing tickets, "
        "interrupted cancels and retries, and callbacks that were not scheduled."
    )

    default_database = (
        "each database of the project that holds batches; with --batch, the one to which the routers"
        " write batches"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--batch",
            metavar="ID",
            help=f"Only the tree of this batch. {ID_HELP}",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Print the first repair that each batch needs, and change nothing.",
        )
        parser.add_argument("--json", action="store_true", help="Print a JSON list of repairs.")

    def handle(
        self,
        *,
        database: str | None,
        batch: str | None,
        dry_run: bool,
        json: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        places: list[tuple[str, uuid.UUID | None]]
        if batch is not None:
            found = list(self.batches([batch], database))
            places = [(each.database, each.pk) for each in found]
        else:
            places = [(using, None) for using in self._databases(database)]
        repairs: list[Repair] = []
        for using, tree in places:
            for each in self._reconcile(using, batch_id=tree, dry_run=dry_run):
                repairs.append(each)
                if verbosity > 0 and not json:
                    where = f" in database {using}" if database_option(using) else ""
                    self.stdout.write(f"{each}{where}")
        if json:
            self.stdout.write(_as_json(repairs))
        elif verbosity > 0 and (repairs or not self._has_errors):
            self.stdout.write(_summary(repairs, dry_run=dry_run))

    def _databases(self, database: str | None) -> list[str]:
        """Return the alias of each database to reconcile; report those that do not answer."""
        if database is not None:
            return [database]
        found = find_databases()
        for using, error in found.unreachable.items():
            self.report_error(_away(using, error))
        return list(found.aliases.values())

    def _reconcile(self, using: str, **options: Any) -> Iterator[Repair]:
        """Yield the repairs in one database; report a database that does not answer."""
        try:
            yield from reconcile(using, **options)
        except Error as error:
            self.report_error(_away(using, error))


def _away(using: str, error: Exception) -> str:
    return f"Database {using} was not reconciled: {error}"


def _summary(repairs: list[Repair], *, dry_run: bool) -> str:
    if not repairs:
        return "Nothing to repair."
    verb = "Would make" if dry_run else "Made"
    return f"{verb} {pluralize(len(repairs), 'repair')}."


def _as_json(repairs: list[Repair]) -> str:
    return json.dumps([each.as_json() for each in repairs], indent=2)
