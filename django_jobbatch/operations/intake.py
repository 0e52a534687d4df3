"""Jobs into rows: what a batch takes in, and what it has to know of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from django.utils import timezone

from django_jobbatch import conf, ledger, payload, transport
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.specs import JobSpec, Options

#: Rows in memory, and in one INSERT, at a time.
PAGE: Final = 1000


class Intake:
    """Inserts jobs into a batch whose row this transaction has written, and counts them."""

    def __init__(self, using: str, batch: JobBatch) -> None:
        self.using = using
        self.batch = batch
        self.count = 0
        self._seal = payload.Seal(batch.pk)
        self._defaults = Options(
            queue=batch.queue, timeout=batch.options.get("jobs", {}).get("timeout")
        )
        starts_at = batch.options.get("starts_at")
        self._starts_at = future(datetime.fromisoformat(starts_at)) if starts_at else None
        self._due: dict[str, int] = {}
        self._wake_at: datetime | None = None
        self._queues: set[str] = set()
        self._longest_timeout = batch.longest_timeout
        for entry in batch.callbacks:
            self._make_room(entry["queue"], entry["options"].get("timeout"))
        if batch.options.get("progress"):
            self._make_room(batch.queue, None)

    def take(self, jobs: Iterator[JobSpec], *, lane: int = 0) -> None:
        """Insert the jobs, a page at a time, each in a lane of its own, from `lane` on."""
        links = (self._link(job, place) for place, job in enumerate(jobs, start=lane))
        while page := list(islice(links, PAGE)):
            ledger.insert_jobs(self.using, page)

    def complete(self, **values: object) -> ledger.Change:
        """Write to the batch row what has come in, and any other columns."""
        return ledger.complete(
            self.using,
            self.batch,
            count=self.count,
            due=self._due,
            queues=sorted(self._queues),
            longest_timeout=self._longest_timeout,
            wake_at=self._wake_at,
            **values,
        )

    def _link(self, job: JobSpec, lane: int) -> BatchedJob:
        options = job.options.over(self._defaults)
        queue = options.queue or self.batch.queue
        link = BatchedJob(
            batch=self.batch,
            lane=lane,
            queue=queue,
            payload=self._seal.pack(job, f"job {lane} ({job.path})"),
            options=stored(job.options),
            available_at=latest(begins_at(job.options), self._starts_at),
        )
        self._make_room(queue, options.timeout)
        self.count += 1
        if link.available_at is None:
            self._due[queue] = self._due.get(queue, 0) + 1
        elif self._wake_at is None or link.available_at < self._wake_at:
            self._wake_at = link.available_at
        return link

    def _make_room(self, queue: str, timeout: int | None) -> None:
        """See to it that tickets reach this queue and last as long as its links may."""
        if queue not in self._queues:
            transport.check_queue(queue)
            self._queues.add(queue)
        seconds = conf.current().TIMEOUT if timeout is None else timeout
        if seconds is None:
            seconds = transport.default_timeout(queue)
        endless = seconds < 0 or self._longest_timeout < 0
        self._longest_timeout = -1 if endless else max(self._longest_timeout, seconds)


def stored(options: Options) -> dict[str, Any]:
    """What a runner needs of these options later; queue and delay are in columns already."""
    kept = {
        "timeout": options.timeout,
        "retry": options.retry,
        "retry_interval": options.retry_interval,
        "transactional": options.transactional,
        "description": options.description,
    }
    return {name: value for name, value in kept.items() if value is not None}


def begins_at(options: Options) -> datetime | None:
    """When what has these options may begin; None for at once."""
    if options.delay is not None:
        return future(timezone.now() + timedelta(seconds=options.delay))
    return None if options.run_after is None else future(options.run_after)


def future(moment: datetime) -> datetime | None:
    """The moment in whole seconds, rounded up; None if it is over."""
    whole = moment.replace(microsecond=0) + timedelta(seconds=bool(moment.microsecond))
    return whole if whole > timezone.now() else None


def latest(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two moments, None being now."""
    return max(one, other) if one and other else one or other
