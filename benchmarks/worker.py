"""RQ worker that measures its working time: `python -m benchmarks.worker rq.Worker default`.

The worker prints `ready` and waits for a line on stdin, so no figure includes the start of Python and
Django. It works until its queues are empty. Then it prints the seconds, the peak memory of a work-horse in MB,
the seconds of processor time with all work-horses, and the number of RQ jobs.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any, Final

import django
from django.utils.module_loading import import_string

READY: Final = "ready"


class Timed:
    """Worker mixin that records the time of its last job.

    RQ may wait a second for one of its threads after that.
    """

    finished = 0.0
    jobs = 0

    def teardown(self) -> None:
        self.finished = time.perf_counter()
        self.jobs = int(self.connection.hget(self.key, "successful_job_count") or 0)  # type: ignore[attr-defined]  # of the worker
        super().teardown()  # type: ignore[misc]  # a method of the worker class


def main(worker_class: str, *queues: str) -> None:
    django.setup()
    # These imports need Django.
    from django_rq.utils import reset_db_connections  # noqa: PLC0415
    from django_rq.workers import get_worker  # noqa: PLC0415

    timed = type("TimedWorker", (Timed, import_string(worker_class)), {})
    worker: Any = get_worker(*queues, worker_class=timed)
    reset_db_connections()  # as the `rqworker` command does
    print(READY, flush=True)
    sys.stdin.readline()
    used = processor_seconds()
    started = time.perf_counter()
    worker.work(burst=True, logging_level="WARNING")
    used = processor_seconds() - used
    horses = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(worker.finished - started, megabytes(horses.ru_maxrss), used, worker.jobs)


def processor_seconds() -> float:
    """Return the processor time of this process and of its ended children."""
    own, children = os.times()[:2], os.times()[2:4]
    return sum(own) + sum(children)


def megabytes(maxrss: int) -> float:
    """Return `ru_maxrss` in MB; macOS reports bytes, other systems kilobytes."""
    return maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main(*sys.argv[1:])
