"""Rows of new links, and what the row of their batch must know about them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from django_jobbatch import payload, transport, tuning
from django_jobbatch.ledger import LinkRow
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.batch_rows import stored_options
from django_jobbatch.schedule import earliest, latest, read_moment, start_time, upcoming
from django_jobbatch.specs.batch import BatchSpec, JobSpec, Lane, Link
from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.specs.validation import MAX_TEXT_LENGTH
from django_jobbatch.states import BatchStatus, LinkStatus, Role

#: A lane number, a position in that lane, and a link.
PlacedLink: TypeAlias = tuple[int, int, Link]

#: The stored options of a link without options. All such links share it.
_NONE_STORED: Final[dict[str, Any]] = {}


class LinkChunk(NamedTuple):
    """Rows of links, and the child batches among them, each with the id that its stand-in has."""

    rows: Sequence[LinkRow]
    children: Sequence[tuple[uuid.UUID, BatchSpec]]


NO_LINKS: Final = LinkChunk((), ())


class LinkReader:
    """Makes rows of the links of one batch, in chunks, and sums them up for the row of the batch."""

    def __init__(self, batch: JobBatch, placed: Iterator[PlacedLink]) -> None:
        self.batch = batch
        self.count = 0
        self._placed = placed
        self._sign = payload.CallSigner(batch.pk, Role.JOB).text
        self._defaults = Options(
            queue=batch.queue, timeout=batch.options.get("jobs", {}).get("timeout")
        )
        starts_at = read_moment(batch.options.get("starts_at"))
        self._starts_at = upcoming(starts_at) if starts_at else None
        self._children = 0
        self._function = ""
        self._has_lanes = batch.has_lanes
        # Jobs without options and without a start time, which nearly all are.
        self._plain = 0
        self._due: dict[str, int] = {}
        self._next_event_at: datetime | None = None
        self._queues: set[str] = set()
        self._longest_timeout = batch.longest_timeout
        for entry in batch.callbacks:
            self._register_queue(entry["queue"], entry["options"].get("timeout"))
        if batch.options.get("progress"):
            self._register_queue(batch.queue, None)

    def read_chunk(self, size: int) -> LinkChunk:
        """Return the rows of the next links, at most `size`; fewer only if no link follows."""
        rows: list[LinkRow] = []
        children: list[tuple[uuid.UUID, BatchSpec]] = []
        for lane, position, link in islice(self._placed, size):
            if isinstance(link, JobSpec):
                rows.append(self._job(lane, position, link))
            else:
                pk = uuid.uuid4()
                children.append((pk, link))
                rows.append(self._stand_in(lane, position, link, pk))
        self.count += len(rows)
        self._children += len(children)
        return LinkChunk(rows, children)

    def totals(self) -> dict[str, Any]:
        """Return what the row of the batch must know about the links that were read."""
        batch = self.batch
        due = dict(self._due)
        if self._plain:
            due[batch.queue] = due.get(batch.queue, 0) + self._plain
        next_event_at = self._next_event_at
        if self._function:
            batch.options.setdefault("function", self._function)
        if batch.status == BatchStatus.WAITING:
            # Nothing is due and no delay runs before the batch starts.
            batch.options["delayed"] = batch.options.get("delayed") or next_event_at is not None
            due, next_event_at = {}, None
        return {
            "count": self.count,
            "children": self._children,
            "due": due,
            "queues": sorted(self._queues),
            "longest_timeout": self._longest_timeout,
            "next_event_at": next_event_at,
            "has_lanes": self._has_lanes,
            "name": batch.name or self._function[:MAX_TEXT_LENGTH] or f"empty {batch.kind}",
            "options": batch.options,
        }

    def _job(self, lane: int, position: int, link: JobSpec) -> LinkRow:
        batch, options = self.batch, link.options
        try:
            text = self._sign(link)
        except payload.EncodingError as error:
            where = f"{_error_location(lane, position)} ({link.path}), argument "
            raise error.as_public_error(where) from None
        if not self._function:
            self._function = link.path
        status = LinkStatus.PENDING
        if position:
            self._has_lanes, status = True, LinkStatus.WAITING
        elif options is NO_OPTIONS and self._starts_at is None:
            # Written out, because a batch may have a million of them.
            if not self._plain:
                self._register_queue(batch.queue, self._defaults.timeout)
            self._plain += 1
            return LinkRow(batch.id, lane, 0, status, batch.queue, text, _NONE_STORED, None)
        queue, timeout = options.queue or batch.queue, options.timeout
        self._register_queue(queue, self._defaults.timeout if timeout is None else timeout)
        return LinkRow(
            batch_id=batch.pk,
            lane=lane,
            position=position,
            status=status,
            queue=queue,
            payload=text,
            options=_start_options(options) | stored_options(options),
            available_at=None if position else self._start(queue, options),
        )

    def _stand_in(self, lane: int, position: int, spec: BatchSpec, pk: uuid.UUID) -> LinkRow:
        batch = self.batch
        self._has_lanes = self._has_lanes or position > 0
        self._register_queue(batch.queue, None)
        return LinkRow(
            batch_id=batch.pk,
            lane=lane,
            position=position,
            status=LinkStatus.WAITING if position else LinkStatus.PENDING,
            queue=batch.queue,
            payload="",
            options=_start_options(spec.options),
            available_at=None if position else self._start(batch.queue, spec.options),
            child_id=pk,
            child_run=1,
        )

    def _start(self, queue: str, options: Options) -> datetime | None:
        """Return the start time of the first link of a lane, and count it as due if it has none."""
        at = latest(start_time(options.delay, options.run_after), self._starts_at)
        if at is None:
            self._due[queue] = self._due.get(queue, 0) + 1
        else:
            self._next_event_at = earliest(self._next_event_at, at)
        return at

    def _register_queue(self, queue: str, timeout: int | None) -> None:
        """Record the queue, and the longest timeout of its links."""
        if queue not in self._queues:
            transport.check_queue(queue)
            self._queues.add(queue)
        seconds = transport.default_timeout(queue) if timeout is None else timeout
        is_unlimited = seconds < 0 or self._longest_timeout < 0
        self._longest_timeout = -1 if is_unlimited else max(self._longest_timeout, seconds)


def placed_lanes(lanes: Iterator[Lane], first: int) -> Iterator[PlacedLink]:
    """Yield the lane number, the position and the link, in order."""
    step = tuning.POSITION_STEP
    for number, lane in enumerate(lanes, start=first):
        for index, link in enumerate(lane):
            yield number, index * step, link


def placed_after(links: Lane, lane: int, positions: Sequence[int]) -> Iterator[PlacedLink]:
    """Yield links at these positions of a lane."""
    return ((lane, position, link) for position, link in zip(positions, links, strict=True))


def _error_location(lane: int, position: int) -> str:
    """Return the name of a link in error messages."""
    number = position // tuning.POSITION_STEP
    return f"job {lane}, link {number}" if number else f"job {lane}"


def _start_options(options: Options) -> dict[str, Any]:
    """Return the start options that the row of a waiting link keeps."""
    if options.delay is not None:
        return {"delay": options.delay}
    return {} if options.run_after is None else {"run_after": options.run_after.isoformat()}
