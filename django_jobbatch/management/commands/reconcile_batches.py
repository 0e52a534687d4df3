"""reconcile_batches: repair what dying workers, lost tickets and lost Redis data have left behind."""

from __future__ import annotations

import json
from typing import Any, Final

from django.core.management.base import CommandParser
from django.db import router

from django_jobbatch.management.base import ID_HELP, BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile

#: What each finding says, after its number of jobs or tickets.
DESCRIPTIONS: Final = {
    RepairKind.LOST: "of a worker that died",
    RepairKind.RETRY: "a retry that broke off",
    RepairKind.STOP: "not stopped, though the batch around it goes no further",
    RepairKind.SWEEP: "stopping, with jobs that were not cancelled",
    RepairKind.FINISH: "all jobs are settled, but it had not finished",
    RepairKind.CALLBACK: "a callback that had not become due",
    RepairKind.CHILD_SETTLED: "ended, and the batch around it did not know",
    RepairKind.AT_REST: "nothing was left to do, which was not noted",
    RepairKind.TICKET: "missing",
    RepairKind.DELAY: "no ticket scheduled for its delayed jobs",
}
#: What a finding counts, if it counts anything.
COUNT_NOUNS: Final = {
    RepairKind.LOST: ("job or callback", "jobs and callbacks"),
    RepairKind.TICKET: ("ticket", "tickets"),
}


class Command(BatchCommand):
    """Reconciles batches."""

    help = (
        "Compares all batches that have something left to do with RQ, and repairs what differs: "
        "jobs of workers that died, tickets that are missing, and what was not drawn, told or swept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add which batches, and how."""
        super().add_arguments(parser)
        parser.add_argument(
            "--batch",
            metavar="ID",
            help=f"Only this batch, and the whole tree that it is part of. {ID_HELP}",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Say what is found first of each batch, and change nothing.",
        )
        parser.add_argument("--json", action="store_true", help="Print a JSON array of findings.")

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
        """Repair, and print what was found."""
        using = database or router.db_for_write(JobBatch)
        trees = [None] if batch is None else [each.pk for each in self.batches([batch], database)]
        found: list[Repair] = []
        for tree in trees:
            for finding in reconcile(using, batch_id=tree, dry_run=dry_run):
                found.append(finding)
                if verbosity > 0 and not json:
                    self.stdout.write(_line(finding))
        if json:
            self.stdout.write(_as_json(found))
        elif verbosity > 0 and (found or not self._has_refused):
            self.stdout.write(_summary(found, dry_run=dry_run))


def _line(finding: Repair) -> str:
    said = DESCRIPTIONS[finding.kind]
    if names := COUNT_NOUNS.get(finding.kind):
        said = f"{pluralize(finding.count, *names)} {said}"
    queue = f" on queue {finding.queue}" if finding.queue else ""
    return f"{finding.batch_id} {finding.kind}: {said}{queue}"


def _summary(found: list[Repair], *, dry_run: bool) -> str:
    if not found:
        return "Nothing to repair."
    verb = "Would repair" if dry_run else "Repaired"
    return f"{verb} {pluralize(len(found), 'finding')}."


def _as_json(found: list[Repair]) -> str:
    return json.dumps([finding.as_json() for finding in found], indent=2)
