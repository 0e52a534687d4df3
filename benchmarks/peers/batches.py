"""The package itself: batches in its recommended worker."""

from __future__ import annotations

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side, manage_command
from django_jobbatch import bus
from django_jobbatch.models import JobBatch


def noop(number: int) -> None:
    mark()


def callback(batch: JobBatch) -> None:
    mark()


class Batches(Side):
    """Batches with `then` and `finally_`; plain tasks are one batch without callbacks."""

    name = "batches"
    callbacks = 2
    forks = True
    queue = "default"

    def command(self) -> list[str]:
        return manage_command("rqworker", self.queue, "-v", "0")

    def send_tasks(self, count: int) -> None:
        self._jobs(count).dispatch()

    def send_group(self, size: int) -> None:
        self._jobs(size).dispatch()

    def send_batch(self, size: int) -> None:
        self._jobs(size).then(callback).finally_(callback).dispatch()

    def _jobs(self, count: int) -> bus.BatchBuilder:
        return bus.batch(bus.job(noop, number) for number in range(count)).on_queue(self.queue)


class PreparedBatches(Batches):
    """Batches where PostgreSQL keeps the plans of statements."""

    name = queue = "batches_prepared"

    def environment(self) -> dict[str, str]:
        return {"PREPARED_STATEMENTS": "1"}
