"""How far a batch is: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

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


def display(batch: JobBatch) -> AbstractContextManager[Callable[[], None]]:
    """Give what to call after each look at the batch."""
    console = Console()
    return _bar(batch, console) if console.is_terminal else _lines(batch)


@contextmanager
def _bar(batch: JobBatch, console: Console) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]:,} failed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(batch.name, total=batch.total_jobs, failed=0)
        yield lambda: progress.update(
            task, completed=batch.processed_jobs, failed=batch.failed_jobs
        )


@contextmanager
def _lines(batch: JobBatch) -> Iterator[Callable[[], None]]:
    last_line, printed_at = "", float("-inf")

    def show(*, last: bool = False) -> None:
        nonlocal last_line, printed_at
        line = (
            f"{batch.name}: {batch.progress}%, {batch.processed_jobs:,} of {batch.total_jobs:,}, "
            f"{batch.failed_jobs:,} failed, {batch.status}"
        )
        due = last or time.monotonic() - printed_at >= LINE_SECONDS
        if due and line != last_line:
            print(line, flush=True)
            last_line, printed_at = line, time.monotonic()

    yield show
    show(last=True)
