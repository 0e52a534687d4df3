"""A worker for RQ that sees to what has died: `RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorker"}`.

It runs any job of RQ as its base class does. What it does besides is done in processes of its own:
so nothing that raises or hangs there reaches the worker, and no database connection of it is
open when it forks.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.utils.crypto import salted_hmac
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.worker import Worker

from django_jobbatch import transport, tuning
from django_jobbatch.worker.maintenance import (
    close_connections,
    has_exited,
    has_open_transaction,
    logging_errors,
    reconcile_all,
    rescue,
    wait_for_exit,
)
from django_jobbatch.worker.warmup import warm_up

if TYPE_CHECKING:
    Base = Worker
else:
    Base = object


logger = logging.getLogger("django_jobbatch.worker")


class BatchWorkerMixin(Base):
    """Put it before a worker class of RQ: `class OurWorker(BatchWorkerMixin, HerokuWorker)`.

    A work-horse that dies, however it does, is noticed at once, and the jobs that it had are sent
    again. Every `tick` seconds, idle or busy, one worker of all compares the ledger with RQ and
    repairs what differs. Work-horses begin warm. A worker class without work-horses
    (`SimpleWorker`) looks after everything as well, while it is idle.
    """

    #: Whole seconds between two looks at everything.
    reconcile_interval = 15
    # How redis-py names itself to Redis; None for one that is too old to be told.
    _driver: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job_monitoring_interval = min(self.job_monitoring_interval, self.reconcile_interval)
        self._aliases: set[str] = set()
        self._reconciled_at = float("-inf")
        self._reconcile_pid: int | None = None
        # How the work-horse has ended, as `os.wait4` says it, or None if that is not known.
        self._horse_ends: list[int | None] = []

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Warm up, and start as RQ does."""
        with logging_errors("warm up"):
            self._driver = transport.driver_info()
            warm_up()
        super().bootstrap(*args, **kwargs)

    # Looking at everything

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether RQ's maintenance is due, or a look at everything."""
        return self._reconcile_is_due or super().should_run_maintenance_tasks

    def run_maintenance_tasks(self) -> None:
        """Run what is due of RQ's maintenance, and look at everything."""
        if super().should_run_maintenance_tasks:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]  # RQ's is not typed
        self._start_reconcile()

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, *args: Any, **kwargs: Any) -> Any:
        """Wait for a job as RQ does, but not longer than to the next look at everything."""
        if timeout is not None:
            timeout = min(timeout, self.reconcile_interval)
        dequeued = super().dequeue_job_and_maintain_ttl(timeout, *args, **kwargs)
        if dequeued is None and timeout is None and self._finish_reconcile():
            # A burst is over when nothing is left, and that look may have sent something.
            dequeued = super().dequeue_job_and_maintain_ttl(timeout, *args, **kwargs)
        return dequeued

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """Say that the work-horse is alive, and look at everything if that is due."""
        super().maintain_heartbeats(*args, **kwargs)
        if self._reconcile_is_due:
            self._start_reconcile()

    # Work-horses

    def execute_job(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """Run a job as RQ does."""
        with logging_errors("read a ticket"):
            if ticket := transport.parse_ticket(job):
                self._aliases.add(ticket.using)
        super().execute_job(job, *args, **kwargs)

    def fork_work_horse(self, *args: Any, **kwargs: Any) -> None:
        """Begin a work-horse as RQ does, with no database connection in common."""
        close_connections()  # a handler of the project may have opened one
        super().fork_work_horse(*args, **kwargs)

    def main_work_horse(self, *args: Any, **kwargs: Any) -> Any:
        """Be the work-horse, as RQ does."""
        if self._driver is not None:
            # Else redis-py reads its own version from the disk for each connection that it opens.
            self.connection.connection_pool.connection_kwargs.setdefault(
                "driver_info", self._driver
            )
        return super().main_work_horse(*args, **kwargs)

    def kill_horse(self, *args: Any, **kwargs: Any) -> None:
        """Kill the work-horse as RQ does, if there is one.

        Without one, RQ would kill the worker and all of its group: its number is 0 then, which is
        one's own. So it is with a worker that has none, and with one whose work-horse has just died.
        """
        if self.horse_pid:
            super().kill_horse(*args, **kwargs)

    def wait_for_horse(self) -> Any:
        """Wait for the work-horse as RQ does."""
        waited = super().wait_for_horse()
        self._horse_ends.append(waited[1])
        return waited

    def monitor_work_horse(self, job: Job, queue: Any, *args: Any, **kwargs: Any) -> None:
        """Watch the work-horse as RQ does; if it died, see to what it had."""
        self._horse_ends.clear()
        try:
            super().monitor_work_horse(job, queue, *args, **kwargs)
        finally:
            # Without an end it goes on without us, as RQ's worker gives up if it loses Redis.
            if self._horse_ends:
                with logging_errors("see to a dead work-horse"):
                    self._rescue_horse(job, queue, *args, **kwargs)

    def _rescue_horse(self, job: Job, queue: Any, *args: Any, **kwargs: Any) -> None:
        ticket = transport.parse_ticket(job)
        if ticket is None:
            return
        status = _rq_status(job)
        if self._horse_ends[0] == os.EX_OK:
            if status is None:
                return  # RQ forgets a ticket that has done its work
            if status == JobStatus.STARTED:
                # RQ believes the exit code, and would take the ticket for one that is worked on.
                reason = "The work-horse exited in the middle of its work."
                self.handle_job_failure(job, queue, None, reason, *args, **kwargs)
        logger.warning(
            "The work-horse of ticket %s ended before its work; what it had is sent again",
            job.id,
            extra={"batch_id": str(ticket.batch_id)},
        )
        repair = partial(rescue, ticket.using, ticket.batch_id, job.id)
        wait_for_exit(self._fork(repair, tuning.RESCUE_TIMEOUT))

    # The processes of its own

    @property
    def _reconcile_is_due(self) -> bool:
        return time.monotonic() - self._reconciled_at >= self.reconcile_interval

    def _start_reconcile(self) -> None:
        """Have everything looked at, unless another worker does, or the last look goes on."""
        with logging_errors("have batches looked at"):
            self._reconciled_at = time.monotonic()
            goes_on = self._reconcile_pid is not None and not has_exited(self._reconcile_pid)
            if self._is_leader() and not goes_on and not has_open_transaction():
                self._reconcile_pid = self._fork(
                    partial(reconcile_all, self._aliases), tuning.RECONCILE_TIMEOUT
                )

    def _finish_reconcile(self) -> bool:
        """Wait for the look at everything that goes on; whether there was one."""
        if self._reconcile_pid is None:
            return False
        wait_for_exit(self._reconcile_pid)
        self._reconcile_pid = None
        return True

    def _is_leader(self) -> bool:
        """Whether this worker is the one that looks at everything; it is as long as it goes on."""
        # By the secret of the project, since others may share this Redis.
        key = f"jobbatch:lead:{salted_hmac('django_jobbatch.worker', '').hexdigest()[:8]}"
        if self.connection.set(key, self.name, nx=True, ex=2 * self.reconcile_interval):
            return True
        leader = self.connection.get(key)
        return leader == self.name.encode() and bool(
            self.connection.expire(key, 2 * self.reconcile_interval)
        )

    def _fork(self, action: Callable[[], None], seconds: int) -> int:
        """Do this in a process of its own, which is killed after so many seconds; its id."""
        close_connections()
        pid = os.fork()
        if pid:
            return pid
        try:
            self.setup_work_horse_signals()  # type: ignore[no-untyped-call]  # RQ's is not typed
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            with logging_errors("repair what a work-horse has left"):
                action()
        finally:
            os._exit(0)


class BatchWorker(BatchWorkerMixin, Worker):
    """RQ's worker, which forks a work-horse for every job, and sees to batches besides."""


def _rq_status(job: Job) -> JobStatus | None:
    """What RQ says of the job now; None if it does not know it."""
    try:
        return job.get_status()
    except InvalidJobOperation:
        return None
