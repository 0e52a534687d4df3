"""reconcile_batches: compare batches with RQ, and repair the differences."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser
from django.db import router

from django_jobbatch.management.base import ID_HELP, BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import Repair, reconcile


class Command(BatchCommand):
    """Reconciles batches."""

    help = (
        "Compares batches with RQ and repairs the differences: jobs of dead workers, missing tickets, "
        "interrupted cancels and retries, and callbacks that were not scheduled."
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
        using = database or router.db_for_write(JobBatch)
        trees = [None] if batch is None else [each.pk for each in self.batches([batch], database)]
        repairs: list[Repair] = []
        for tree in trees:
            for each in reconcile(using, batch_id=tree, dry_run=dry_run):
                repairs.append(each)
                if verbosity > 0 and not json:
                    self.stdout.write(str(each))
        if json:
            self.stdout.write(_as_json(repairs))
        elif verbosity > 0 and (repairs or not self._has_errors):
            self.stdout.write(_summary(repairs, dry_run=dry_run))


def _summary(repairs: list[Repair], *, dry_run: bool) -> str:
    if not repairs:
        return "Nothing to repair."
    verb = "Would make" if dry_run else "Made"
    return f"{verb} {pluralize(len(repairs), 'repair')}."


def _as_json(repairs: list[Repair]) -> str:
    return json.dumps([each.as_json() for each in repairs], indent=2)
