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
        """Add the batch, `--dry-run` and the format."""
        super().add_arguments(parser)
        parser.add_argument(
            "--batch",
            metavar="ID",
            help=f"Only the tree of this batch. {ID_HELP}",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Report the first finding of each batch, and change nothing.",
        )
        parser.add_argument("--json", action="store_true", help="Print a JSON list of findings.")

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
        """Reconcile, and print the findings."""
        using = database or router.db_for_write(JobBatch)
        trees = [None] if batch is None else [each.pk for each in self.batches([batch], database)]
        findings: list[Repair] = []
        for tree in trees:
            for finding in reconcile(using, batch_id=tree, dry_run=dry_run):
                findings.append(finding)
                if verbosity > 0 and not json:
                    self.stdout.write(str(finding))
        if json:
            self.stdout.write(_as_json(findings))
        elif verbosity > 0 and (findings or not self._has_errors):
            self.stdout.write(_summary(findings, dry_run=dry_run))


def _summary(findings: list[Repair], *, dry_run: bool) -> str:
    if not findings:
        return "Nothing to repair."
    verb = "Would repair" if dry_run else "Repaired"
    return f"{verb} {pluralize(len(findings), 'finding')}."


def _as_json(findings: list[Repair]) -> str:
    return json.dumps([finding.as_json() for finding in findings], indent=2)
