"""`BatchWorker`, a worker for RQ that reconciles batches and rescues the jobs of dead work-horses.

It runs every RQ job as its base class does. Reconcile and rescue run in forked processes, so an
error or a hang there does not reach the worker, and the worker has no open database connection
when it forks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.worker import Worker

from django_jobbatch import transport, tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.runner import timed_calls
from django_jobbatch.runner.timed_calls import SharedCall
from django_jobbatch.worker import maintenance, processes, rescue
from django_jobbatch.worker.processes import logging_errors
from django_jobbatch.worker.rescue import DeadSession, RepeatedRescues
from django_jobbatch.worker.warmup import warm_up

if TYPE_CHECKING:
    Base = Worker
else:
    Base = object

logger = get_logger("django_jobbatch.worker")


class BatchWorkerMixin(Base):
    """Put this before a worker class of RQ: `class OurWorker(BatchWorkerMixin, HerokuWorker)`.

    When a work-horse dies, its jobs are pending again at once. Every `reconcile_interval` seconds
    one worker of the project reconciles all batches, whether it is idle or busy. Work-horses start
    with all modules loaded. A worker class without work-horses (`SimpleWorker`) reconciles while it
    is idle.
    """

    #: Whole seconds between two reconciles.
    reconcile_interval = tuning.RECONCILE_INTERVAL
    # How redis-py names itself to Redis. None if its version does not accept a name.
    _driver_info: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.job_monitoring_interval = min(self.job_monitoring_interval, self.reconcile_interval)
        self._reconcilers = maintenance.Reconcilers(self.connection, self.name)
        self._repeated_rescues = RepeatedRescues(self._fork)
        self._reconciled_at = float("-inf")
        # The processes that reconcile, by the alias of their database.
        self._reconcile_pids: dict[str, int] = {}
        # Statuses that `os.wait4` returned for the work-horse, None where RQ got none.
        self._horse_statuses: list[int | None] = []
        self._is_rescuing = False
        self._must_exit = False
        # The work-horse that a cold shutdown has killed, by its process id.
        self._killed_horse = 0

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Warm up, and start as RQ does."""
        timed_calls.share()
        with logging_errors("warm up"):
            self._driver_info = transport.driver_info()
            warm_up()
        with logging_errors("find the databases of batches"):
            self._reconcilers.find_databases(set_signals=self.setup_work_horse_signals)
        super().bootstrap(*args, **kwargs)

    # Reconcile

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether a reconcile or RQ's own maintenance is due."""
        return self._is_reconcile_due or super().should_run_maintenance_tasks

    def run_maintenance_tasks(self) -> None:
        """Start a reconcile, and run RQ's maintenance if that is due."""
        if super().should_run_maintenance_tasks:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]  # RQ's is not typed
        self._start_reconcile()

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, *args: Any, **kwargs: Any) -> Any:
        """Wait for a job as RQ does, at most until the next reconcile."""
        if timeout is not None:
            timeout = min(timeout, self.reconcile_interval)
        dequeued = super().dequeue_job_and_maintain_ttl(timeout, *args, **kwargs)
        if dequeued is None and timeout is None and self._finish_repairs():
            # A burst ends with the last job, and a repair may have sent a ticket.
            dequeued = super().dequeue_job_and_maintain_ttl(timeout, *args, **kwargs)
        return dequeued

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """Send heartbeats as RQ does, and start a reconcile if that is due.

        A work-horse that cannot end a job itself is killed.
        """
        super().maintain_heartbeats(*args, **kwargs)
        self._kill_overdue_horse()
        if self._is_reconcile_due:
            self._start_reconcile()

    # Work-horses

    def fork_work_horse(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """Fork a work-horse as RQ does, without an open database connection.

        A request to stop this ticket may have come before the worker knew the id of the work-horse.
        Any other job is RQ's: its id may be of an earlier run.
        """
        timed_calls.clear_shared()
        processes.close_connections()  # a handler of the project may have opened one
        super().fork_work_horse(job, *args, **kwargs)
        if self._stopped_job_id == job.id and transport.parse_ticket(job):
            self.kill_horse()

    def main_work_horse(self, *args: Any, **kwargs: Any) -> Any:
        """Run the work-horse as RQ does. Its ticket may take over others that follow in the queue."""
        # A work-horse that was spawned has no order of its own.
        queues = getattr(self, "_ordered_queues", None) or self.queues
        transport.allow_taking_over(self.key, [queue.key for queue in queues])
        # Before it connects, since an open connection would have to connect again.
        transport.bound(self.connection)
        if self._driver_info is not None:
            # Otherwise redis-py reads its version from disk for each connection.
            self.connection.connection_pool.connection_kwargs.setdefault(
                "driver_info", self._driver_info
            )
        return super().main_work_horse(*args, **kwargs)

    def kill_horse(self, *args: Any, **kwargs: Any) -> None:
        """Kill the work-horse as RQ does, if there is one.

        RQ would kill the worker and its process group otherwise: the id of a missing work-horse is
        0, which means the caller's own group. A new work-horse is in that group too.
        """
        if self.horse_pid:
            with suppress(OSError):  # it has done so itself, or is dead
                os.setpgid(self.horse_pid, self.horse_pid)
            super().kill_horse(*args, **kwargs)

    def wait_for_horse(self) -> Any:
        """Wait for the work-horse as RQ does, and note its exit status."""
        waited = super().wait_for_horse()
        self._horse_statuses.append(waited[1])
        return waited

    def monitor_work_horse(self, job: Job, queue: Any, *args: Any, **kwargs: Any) -> None:
        """Monitor the work-horse as RQ does; if it died, rescue its jobs."""
        self._horse_statuses.clear()
        # RQ 3 passes the execution; RQ 2 has it in an attribute.
        execution = kwargs.get("execution", args[0] if args else self.execution)
        execution_id = "" if execution is None else execution.id
        try:
            super().monitor_work_horse(job, queue, *args, **kwargs)
        finally:
            # No status: RQ's worker has lost Redis and exits, and its work-horse continues.
            if self._horse_statuses:
                with self._delaying_exit(), logging_errors("rescue the jobs of a work-horse"):
                    self._rescue_horse(job, queue, execution_id, *args, **kwargs)
            if self._stopped_job_id == job.id:
                # RQ forgets a request only if the job fails. This one came as it succeeded.
                self._stopped_job_id = None

    def request_force_stop(self, *args: Any, **kwargs: Any) -> None:
        """Shut down at once as RQ does, but after a rescue.

        Impatient people and process managers send more signals than the two that RQ expects.
        """
        if self._must_exit and (self._is_rescuing or 0 != self.horse_pid == self._killed_horse):
            return  # the exception is on its way, unless other code has caught it
        try:
            super().request_force_stop(*args, **kwargs)
        except SystemExit:
            self._must_exit, self._killed_horse = True, self.horse_pid
            if not self._is_rescuing:
                raise

    @contextmanager
    def _delaying_exit(self) -> Iterator[None]:
        """Exit after the block if a cold shutdown is requested meanwhile."""
        self._is_rescuing = True
        try:
            yield
        finally:
            self._is_rescuing = False
        if self._must_exit:
            raise SystemExit

    def _kill_overdue_horse(self) -> None:
        """Kill the work-horse if its job ignores its timeout and the watchdog does not end it.

        The watchdog is a thread, so it stands still if C code holds the interpreter.
        """
        call = SharedCall.read()
        if call is not None and call.ignores_timeout:
            logger.error(
                "The worker kills its work-horse, because a job still runs %d seconds after its"
                " timeout of %d seconds",
                call.seconds_over,
                call.seconds,
            )
            self.kill_horse()

    def _rescue_horse(
        self, job: Job, queue: Any, execution_id: str, *args: Any, **kwargs: Any
    ) -> None:
        """Release the links that a dead work-horse holds, if it worked on a ticket.

        A ticket that was delivered twice has another work-horse, and the links of both have the
        same ticket id. While the other one is alive, the links of the dead one wait for the end of
        their leases.
        """
        ticket = transport.parse_ticket(job)
        if ticket is None:
            return
        live = transport.live_executions(job)
        has_other = bool(live - {execution_id})
        if self._horse_statuses[0] == os.EX_OK:
            status = _rq_status(job)
            if status is None or (has_other and execution_id not in live):
                return  # RQ has finished this execution
            if status == JobStatus.STARTED:
                # RQ trusts the exit code, and would regard the ticket as executing.
                reason = "The work-horse exited before its job finished."
                self.handle_job_failure(job, queue, None, reason, *args, **kwargs)
        details = {"batch_id": str(ticket.batch_id)}
        if has_other:
            logger.warning(
                "A work-horse of ticket %s died while another one executes it; the jobs of the"
                " dead one run again after their lease",
                job.id,
                extra=details,
            )
            return
        call = rescue.ended_call()
        is_stopped = _rq_status(job) == JobStatus.STOPPED
        message = rescue.message_of_end(call, is_stopped=is_stopped)
        logger.warning(message, job.id, extra=details)
        taken_over = transport.taken_over(ticket.queue, job.id)
        dead = DeadSession(
            ticket=job.id,
            queue=ticket.queue,
            using=ticket.using,
            batch_id=ticket.batch_id,
            taken_over=tuple(taken_over),
            is_stopped=is_stopped,
        )
        action = partial(rescue.rescue, dead, call)
        processes.wait_for_exit(self._fork(action, tuning.RESCUE_TIMEOUT))
        self._repeated_rescues.add(dead)
        if taken_over:
            transport.forget(ticket.queue, job.id)

    # Forked processes

    @property
    def _is_reconcile_due(self) -> bool:
        return time.monotonic() - self._reconciled_at >= self.reconcile_interval

    def _start_reconcile(self) -> None:
        """Start a reconcile of each database where this worker leads and its last one has finished.

        It leads for two intervals at a time.
        """
        with logging_errors("start a reconcile"):
            self._reconciled_at = time.monotonic()
            self._repeated_rescues.start()
            actions = self._reconcilers.due(seconds=2 * self.reconcile_interval)
            if processes.has_open_transaction():
                return
            for using, action in actions.items():
                if not self._is_reconciling(using):
                    self._reconcile_pids[using] = self._fork(action, tuning.RECONCILE_TIMEOUT)

    def _finish_repairs(self) -> bool:
        """Wait for the running reconciles and rescues; return whether there was one.

        A database that has not answered at the start may hang, and is not waited for.
        """
        known = self._reconcile_pids.keys() - set(self._reconcilers.unreachable)
        for using in known:
            processes.wait_for_exit(self._reconcile_pids.pop(using))
        return self._repeated_rescues.finish() or bool(known)

    def _is_reconciling(self, using: str) -> bool:
        pid = self._reconcile_pids.get(using)
        return pid is not None and not processes.has_exited(pid)

    def _fork(self, action: Callable[[], None], seconds: int) -> int:
        return processes.fork(action, seconds=seconds, set_signals=self.setup_work_horse_signals)


class BatchWorker(BatchWorkerMixin, Worker):
    """RQ's worker, which forks a work-horse for every job, with `BatchWorkerMixin`."""


def _rq_status(job: Job) -> JobStatus | None:
    """Return RQ's present status of the job, or None if RQ has deleted it."""
    try:
        return job.get_status()
    except InvalidJobOperation:
        return None
