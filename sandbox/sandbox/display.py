"""Progress of a batch: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch

LINE_SECONDS = 1.0

#: Function that shows a snapshot of the batch, with the jobs of its tree.
Show: TypeAlias = Callable[[dict[str, Any]], None]


def display(batch: JobBatch) -> AbstractContextManager[Show]:
    """Return a context with the function that shows a snapshot of the batch."""
    console = Console()
    return _bar(batch, console) if console.is_terminal else _lines(batch)


@contextmanager
def _bar(batch: JobBatch, console: Console) -> Iterator[Show]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]:,} failed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(batch.name, total=None, failed=0)

        def show(snapshot: dict[str, Any]) -> None:
            jobs = snapshot["jobs"]
            progress.update(
                task, total=jobs["total"], completed=_settled(jobs), failed=jobs["failed"]
            )

        yield show


@contextmanager
def _lines(batch: JobBatch) -> Iterator[Show]:
    last_line, line, printed_at = "", "", float("-inf")

    def print_once() -> None:
        nonlocal last_line, printed_at
        if line != last_line:
            print(line, flush=True)
            last_line, printed_at = line, time.monotonic()

    def show(snapshot: dict[str, Any]) -> None:
        nonlocal line
        jobs = snapshot["jobs"]
        line = (
            f"{batch.name}: {snapshot['progress']}%, {_settled(jobs):,} of {jobs['total']:,}, "
            f"{jobs['failed']:,} failed, {batch.status}"
        )
        if time.monotonic() - printed_at >= LINE_SECONDS:
            print_once()

    yield show
    print_once()


def _settled(jobs: dict[str, int]) -> int:
    return jobs["total"] - jobs["pending"]
