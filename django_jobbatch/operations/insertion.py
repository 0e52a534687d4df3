"""Inserting lanes of links as rows, with the child batches in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any, TypeAlias

from django_jobbatch import ledger, payload, transport, tuning
from django_jobbatch.connection_state import ConnectionCheck
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.batch_rows import child_batch_row, stored_options
from django_jobbatch.operations.deleted_rows import refresh
from django_jobbatch.schedule import earliest, latest, read_moment, start_time, upcoming
from django_jobbatch.specs.batch import BatchSpec, JobSpec, Lane, Link
from django_jobbatch.specs.items import read_lanes
from django_jobbatch.specs.options import Options
from django_jobbatch.specs.validation import MAX_TEXT_LENGTH
from django_jobbatch.states import BatchStatus, LinkStatus, Role

#: A lane number, a position in that lane, and a link.
PlacedLink: TypeAlias = tuple[int, int, Link]
#: The inserter of a child batch, and the child's spec.
Child: TypeAlias = "tuple[LinkInserter, BatchSpec]"


def run_before_hooks(using: str, batch: JobBatch, spec: BatchSpec) -> None:
    """Call the `before` functions of a new batch, which may add jobs to it.

    Raises:
        BatchDeleted: one of them has deleted the batch.
    """
    for function in spec.before:
        with ConnectionCheck(close=False, own=using):
            function(batch)
    if spec.before:
        refresh(using, batch)


class LinkInserter:
    """Inserts links into a batch, and counts them. The transaction has written the batch row."""

    def __init__(self, using: str, batch: JobBatch) -> None:
        self.using = using
        self.batch = batch
        self.count = 0
        self._signer = payload.CallSigner(batch.pk, Role.JOB)
        self._defaults = Options(
            queue=batch.queue, timeout=batch.options.get("jobs", {}).get("timeout")
        )
        starts_at = read_moment(batch.options.get("starts_at"))
        self._starts_at = upcoming(starts_at) if starts_at else None
        self._children = 0
        self._function = ""
        self._has_lanes = batch.has_lanes
        self._due: dict[str, int] = {}
        self._next_event_at: datetime | None = None
        self._queues: set[str] = set()
        self._longest_timeout = batch.longest_timeout
        for entry in batch.callbacks:
            self._register_queue(entry["queue"], entry["options"].get("timeout"))
        if batch.options.get("progress"):
            self._register_queue(batch.queue, None)

    def insert_lanes(self, lanes: Iterator[Lane], *, lane: int) -> None:
        """Insert lanes, numbered from `lane` on, with the child batches in them."""
        self._insert(_placed_links(lanes, lane))

    def insert_after(self, links: Lane, lane: int, positions: Sequence[int]) -> None:
        """Insert links at these positions of a lane, after an unsettled link."""
        self._has_lanes = True
        placed = zip(positions, links, strict=True)
        self._insert((lane, position, link) for position, link in placed)

    def finish(self) -> ledger.Change:
        """Write the counters and queues of the inserted links to the batch row."""
        batch = self.batch
        if self._function:
            batch.options.setdefault("function", self._function)
        if batch.status == BatchStatus.WAITING:
            # Nothing is due and no delay runs before the batch starts.
            batch.options["delayed"] = (
                batch.options.get("delayed") or self._next_event_at is not None
            )
            self._due, self._next_event_at = {}, None
        return ledger.count_inserted(
            self.using,
            batch,
            count=self.count,
            children=self._children,
            due=self._due,
            queues=sorted(self._queues),
            longest_timeout=self._longest_timeout,
            next_event_at=self._next_event_at,
            has_lanes=self._has_lanes,
            name=batch.name or self._function[:MAX_TEXT_LENGTH] or f"empty {batch.kind}",
            options=batch.options,
        )

    def _insert(self, placed: Iterator[PlacedLink]) -> None:
        """Insert links in chunks, and after each chunk its child batches.

        A stack replaces recursion: memory stays flat, and depth is not limited.
        """
        stack = [(self, self._chunks(placed))]
        while stack:
            inserter, chunks = stack[-1]
            children = next(chunks, None)
            if children is None:
                stack.pop()
                if inserter is not self:
                    inserter.finish()
                continue
            stack += [(child, child.child_chunks(spec)) for child, spec in reversed(children)]

    def child_chunks(self, spec: BatchSpec) -> Iterator[list[Child]]:
        """Insert the links of a child batch in chunks, once its turn in the stack comes."""
        return self._chunks(_placed_links(read_lanes(spec.sources), self.batch.total_jobs))

    def _chunks(self, placed: Iterator[PlacedLink]) -> Iterator[list[Child]]:
        """Insert a chunk at each step, and yield its child batches, still empty."""
        while chunk := list(islice(placed, tuning.INSERT_CHUNK)):
            links = [self._link(*each) for each in chunk]
            ledger.insert_links(self.using, links)
            children = [
                (child_batch_row(spec, self.batch, link), spec)
                for link, (_, _, spec) in zip(links, chunk, strict=True)
                if isinstance(spec, BatchSpec)
            ]
            self._children += len(children)
            ledger.insert_children(self.using, [child for child, _ in children])
            for child, spec in children:
                run_before_hooks(self.using, child, spec)
            yield [(LinkInserter(self.using, child), spec) for child, spec in children]

    def _link(self, lane: int, position: int, link: Link) -> BatchedJob:
        self.count += 1
        follows = position > 0
        self._has_lanes = self._has_lanes or follows
        options = link.options.with_defaults(self._defaults)
        row = BatchedJob(
            batch_id=self.batch.pk,
            lane=lane,
            position=position,
            status=LinkStatus.WAITING if follows else LinkStatus.PENDING,
            queue=self.batch.queue,
            options=_start_options(link.options),
        )
        if isinstance(link, JobSpec):
            row.queue = options.queue or self.batch.queue
            row.payload = self._signer.sign(
                link, f"{self._error_location(lane, position)} ({link.path})"
            )
            row.options |= stored_options(link.options)
            self._function = self._function or link.path
            self._register_queue(row.queue, options.timeout)
        else:
            row.child_id, row.child_run = uuid.uuid4(), 1
            self._register_queue(row.queue, None)
        if not follows:
            self._set_start(row, link.options)
        return row

    def _error_location(self, lane: int, position: int) -> str:
        """Return the name of a link in error messages."""
        number = position // tuning.POSITION_STEP
        return f"job {lane}, link {number}" if number else f"job {lane}"

    def _set_start(self, row: BatchedJob, options: Options) -> None:
        """Set the start time of the first link of a lane."""
        row.available_at = latest(start_time(options.delay, options.run_after), self._starts_at)
        if row.available_at is None:
            self._due[row.queue] = self._due.get(row.queue, 0) + 1
        else:
            self._next_event_at = earliest(self._next_event_at, row.available_at)

    def _register_queue(self, queue: str, timeout: int | None) -> None:
        """Record the queue, and the longest timeout of its links."""
        if queue not in self._queues:
            transport.check_queue(queue)
            self._queues.add(queue)
        seconds = transport.default_timeout(queue) if timeout is None else timeout
        is_unlimited = seconds < 0 or self._longest_timeout < 0
        self._longest_timeout = -1 if is_unlimited else max(self._longest_timeout, seconds)


def _placed_links(lanes: Iterator[Lane], first: int) -> Iterator[PlacedLink]:
    """Yield the lane number, the position and the link, in order."""
    return chain.from_iterable(
        [(number, index * tuning.POSITION_STEP, link) for index, link in enumerate(lane)]
        for number, lane in enumerate(lanes, start=first)
    )


def _start_options(options: Options) -> dict[str, Any]:
    """Return the start options that the row of a waiting link keeps."""
    if options.delay is not None:
        return {"delay": options.delay}
    return {} if options.run_after is None else {"run_after": options.run_after.isoformat()}
