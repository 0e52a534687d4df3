"""A batch, the workers that die over it, and what brings it to its end after all."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import django_rq
from django.utils import timezone
from rq.job import Job

from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.reconcile import reconcile
from sandbox.servers import Server
from tests.event_log import EventLog, is_over
from tests.servers import RedisServer, Workers, wait_until

SIMPLE_BATCH = "tests.worker_classes.SimpleBatchWorker"


class Scene:
    """The events of one batch. Its workers are RQ's own or `BatchWorker`s."""

    batch: JobBatch

    def __init__(
        self, workers: Workers, redis: RedisServer, event_log: EventLog, *, with_batch_worker: bool
    ) -> None:
        self.workers = workers
        self.redis = redis
        self.event_log = event_log
        self.with_batch_worker = with_batch_worker
        self.move_to("default")

    def move_to(self, queue: str, *options: str) -> None:
        """Have it happen on this queue, with these options of its workers."""
        self.queue = django_rq.get_queue(queue)
        # A fault meets one job: the others of its claim would count a loss, too.
        self._arguments = (queue, "--settings", "tests.single_claims", *options)
        # A second worker might take a ticket too, so one is left if the first ticket dies.
        self._listening = 2

    def claim_all_jobs(self) -> None:
        """Have one ticket claim all jobs, so a fault meets those that have not started, too."""
        self._arguments = (self.queue.name,)
        self._listening = 1

    @property
    def claims_all_jobs(self) -> bool:
        """Whether no other ticket can run a job of the one that dies."""
        return self._listening == 1

    def dispatch(self, builder: BatchBuilder) -> None:
        self.redis.listen(self._listening, self.queue.name)
        self.batch = self.event_log.with_all_callbacks(builder).on_queue(self.queue.name).dispatch()

    def start(self) -> Server:
        """Start a worker of this scene."""
        start = self.workers.batch if self.with_batch_worker else self.workers
        (worker,) = start(1, *self._arguments)
        return worker

    def start_simple(self) -> Server:
        """Start one that has no work-horses."""
        worker_class = SIMPLE_BATCH if self.with_batch_worker else Workers.SIMPLE
        (worker,) = self.workers(1, *self._arguments, "--worker-class", worker_class)
        return worker

    def tickets(self) -> list[Job]:
        """The tickets that are queued."""
        return self.queue.jobs

    def ticket_at_work(self) -> str:
        return self.batch.jobs.running().values_list("claimed_by", flat=True)[0]

    def wait_for(self, *lines: str) -> None:
        self.event_log.wait_for(*lines)

    def wait_until_idle(self, worker: Server) -> None:
        """Wait until it has worked on all tickets."""
        wait_until(lambda: self._is_idle(worker))

    def _is_idle(self, worker: Server) -> bool:
        # Read at once: between two reads a ticket may pass from one of these places to the next.
        with self.redis.client.pipeline() as pipe:
            pipe.llen(self.queue.key)
            pipe.llen(self.queue.intermediate_queue_key)  # where RQ has it on the way
            pipe.hget(f"rq:worker:{worker.name}", "state")
            return bool(pipe.execute() == [0, 0, b"idle"])

    def wait_for_deaths(self, number: int) -> None:
        """Wait until RQ knows of so many tickets that died."""
        wait_until(lambda: self.queue.failed_job_registry.count == number)

    def wait_until_over(self) -> None:
        wait_until(lambda: is_over(self.batch))

    def kill(self, worker: Server) -> None:
        """Kill the worker, but not its work-horse."""
        os.kill(worker.pid, signal.SIGKILL)
        worker.process.wait()

    def age(self) -> None:
        """Let all leases and RQ's timeouts of silent workers expire."""
        ago = timezone.now() - timedelta(seconds=1)
        BatchedJob.objects.exclude(lease_until=None).update(lease_until=ago)
        for key in self.redis.client.keys("rq:wip:*"):
            for entry in self.redis.client.zrange(key, 0, -1):
                self.redis.client.zadd(key, {entry: 1})
        for key in self.redis.client.keys("jobbatch:lead:*"):
            self.redis.client.delete(key)

    def recover(self) -> None:
        """Reconcile everything after that time, and start a worker."""
        self.age()
        if not self.with_batch_worker:
            list(reconcile("default"))
        self.start()

    def recover_from(self, deaths: int) -> None:
        """Continue the batch after each of these deaths of a work-horse."""
        worker = self.start()
        for number in range(1, 1 if self.with_batch_worker else deaths + 1):
            self.wait_for_deaths(number)
            self.wait_until_idle(worker)
            self.age()
            list(reconcile("default"))
