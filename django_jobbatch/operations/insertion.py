"""Lanes into rows: what a batch takes in, the batches inside it, and what it has to know of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any, Self, TypeAlias

from django_jobbatch import ledger, payload, transport, tuning
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.batch_rows import child_batch_row, stored_options
from django_jobbatch.schedule import earliest, latest, start_time, upcoming
from django_jobbatch.specs.batch import BatchSpec, JobSpec, Lane, Link
from django_jobbatch.specs.items import read_lanes
from django_jobbatch.specs.options import Options
from django_jobbatch.states import BatchStatus, LinkStatus, Role

PlacedLink: TypeAlias = tuple[int, int, Link]


class LinkInserter:
    """Inserts links into a batch whose row this transaction has written, and counts them."""

    @classmethod
    def of_new(cls, using: str, batch: JobBatch, spec: BatchSpec) -> Self:
        """The intake of a new batch, whose `before` functions are called now: they may add jobs."""
        for function in spec.before:
            function(batch)
        if spec.before:
            batch.refresh_from_db(using=using)
        return cls(using, batch)

    def __init__(self, using: str, batch: JobBatch) -> None:
        self.using = using
        self.batch = batch
        self.count = 0
        self._seal = payload.CallSigner(batch.pk, Role.JOB)
        self._defaults = Options(
            queue=batch.queue, timeout=batch.options.get("jobs", {}).get("timeout")
        )
        starts_at = batch.options.get("starts_at")
        self._starts_at = upcoming(datetime.fromisoformat(starts_at)) if starts_at else None
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
        """Insert lanes, from number `lane` on, and whole batches where they stand in them."""
        self._insert(_placed_links(lanes, lane))

    def insert_after(self, links: Lane, lane: int, positions: Sequence[int]) -> None:
        """Insert links at these positions of a lane, behind one that is not settled."""
        self._has_lanes = True
        places = zip(positions, links, strict=True)
        self._insert((lane, position, link) for position, link in places)

    def finish(self) -> ledger.Change:
        """Write to the batch row what has come in."""
        batch = self.batch
        if self._function:
            batch.options.setdefault("function", self._function)
        if batch.status == BatchStatus.WAITING:
            # Its turn has not come: until then nothing of it is due, and no delay runs.
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
            name=batch.name or self._function[:255] or f"empty {batch.kind}",
            options=batch.options,
        )

    def _insert(self, places: Iterator[PlacedLink]) -> None:
        """Insert links page by page, and after each page the batches that stand in it.

        These are taken one after another, each to its end, from a stack and not by recursion: so
        memory stays flat and depth is not limited.
        """
        stack = [(self, self._pages(places))]
        while stack:
            intake, pages = stack[-1]
            children = next(pages, None)
            if children is None:
                stack.pop()
                if intake is not self:
                    intake.finish()
                continue
            stack += [(child, child.child_pages(spec)) for child, spec in reversed(children)]

    def child_pages(self, spec: BatchSpec) -> Iterator[list[tuple[LinkInserter, BatchSpec]]]:
        """Insert what a nested batch has, page by page, once its turn in the stack comes."""
        return self._pages(_placed_links(read_lanes(spec.sources), self.batch.total_jobs))

    def _pages(
        self, places: Iterator[PlacedLink]
    ) -> Iterator[list[tuple[LinkInserter, BatchSpec]]]:
        """Insert a page at each step, and give the batches that stand in it, not filled yet."""
        while page := list(islice(places, tuning.INSERT_CHUNK)):
            links = [self._link(*place) for place in page]
            ledger.insert_links(self.using, links)
            nested = [
                (child_batch_row(spec, self.batch, link), spec)
                for link, (_, _, spec) in zip(links, page, strict=True)
                if isinstance(spec, BatchSpec)
            ]
            self._children += len(nested)
            ledger.insert_children(self.using, [child for child, _ in nested])
            yield [(LinkInserter.of_new(self.using, child, spec), spec) for child, spec in nested]

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
            row.payload = self._seal.sign(
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
        """How an error names a link."""
        number = position // tuning.POSITION_STEP
        return f"job {lane}, link {number}" if number else f"job {lane}"

    def _set_start(self, row: BatchedJob, options: Options) -> None:
        """Say when the first link of a lane is due."""
        row.available_at = latest(start_time(options.delay, options.run_after), self._starts_at)
        if row.available_at is None:
            self._due[row.queue] = self._due.get(row.queue, 0) + 1
        else:
            self._next_event_at = earliest(self._next_event_at, row.available_at)

    def _register_queue(self, queue: str, timeout: int | None) -> None:
        """See to it that tickets reach this queue and last as long as its links may."""
        if queue not in self._queues:
            transport.check_queue(queue)
            self._queues.add(queue)
        seconds = transport.default_timeout(queue) if timeout is None else timeout
        endless = seconds < 0 or self._longest_timeout < 0
        self._longest_timeout = -1 if endless else max(self._longest_timeout, seconds)


def _placed_links(lanes: Iterator[Lane], first: int) -> Iterator[PlacedLink]:
    """Lane, position and link of every link, in order."""
    return chain.from_iterable(
        [(number, index * tuning.POSITION_STEP, link) for index, link in enumerate(lane)]
        for number, lane in enumerate(lanes, start=first)
    )


def _start_options(options: Options) -> dict[str, Any]:
    """When a link may begin once its turn has come, as its row keeps it."""
    if options.delay is not None:
        return {"delay": options.delay}
    return {} if options.run_after is None else {"run_after": options.run_after.isoformat()}
