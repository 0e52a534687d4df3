"""RQ alone, in its forking worker and in its `SimpleWorker`."""

from __future__ import annotations

from itertools import islice
from typing import ClassVar

import django_rq
from rq import Queue
from rq.job import Dependency, Job

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side, manage_command

#: Jobs of one `enqueue_many`.
CHUNK = 1000
#: Reasons why something is left out.
FORK = "each job forks, so a thousand take minutes"
DEPENDENCIES = (
    "each job that ends reads all dependencies of the callback (`dependencies_are_met`), so 5,000 jobs"
    " would take too long"
)


def noop(number: int) -> None:
    mark()


def callback() -> None:
    mark()


class ForkingWorker(Side):
    """A batch is jobs and a job that depends on them all."""

    name = "rq_worker"
    share = 0.02
    forks = True
    reasons = dict.fromkeys(("group_1000", "batch_1000", "batch_5000"), FORK)
    worker_class: ClassVar[str] = "rq.Worker"

    def command(self) -> list[str]:
        return manage_command("rqworker", self.name, "-v", "0", "--worker-class", self.worker_class)

    def send_tasks(self, count: int) -> None:
        self._enqueue(count)

    def send_group(self, size: int) -> None:
        self._enqueue(size)

    def send_batch(self, size: int) -> None:
        jobs = self._enqueue(size)
        self._queue.enqueue(callback, depends_on=Dependency(jobs=jobs))

    @property
    def _queue(self) -> Queue:
        return django_rq.get_queue(self.name)

    def _enqueue(self, count: int) -> list[Job]:
        queue, jobs = self._queue, []
        numbers = iter(range(count))
        while chunk := list(islice(numbers, CHUNK)):
            jobs += queue.enqueue_many([Queue.prepare_data(noop, args=(n,)) for n in chunk])
        return jobs


class SimpleWorker(ForkingWorker):
    name = "rq_simple_worker"
    share = 0.1
    forks = False
    reasons = {"batch_5000": DEPENDENCIES}
    worker_class = "rq.SimpleWorker"
