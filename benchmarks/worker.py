"""One RQ worker that tells how long it worked: `python -m benchmarks.worker rq.Worker default`.

It is ready when it has said so, and begins when it is told to, so that the start of Python and
Django is in no figure. It works until its queues are empty, and prints the seconds that took and
the most memory that one of its work-horses had, in MB.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, Final

import django
from django.utils.module_loading import import_string

READY: Final = "ready"


class Timed:
    """A mixin for workers that notes when they have no more to do.

    What follows is not part of the work: RQ may wait a second for a thread of its own.
    """

    ended = 0.0

    def teardown(self) -> None:
        self.ended = time.perf_counter()
        super().teardown()  # type: ignore[misc]  # the worker's


def main(worker_class: str, *queues: str) -> None:
    django.setup()
    # Django is set up only now.
    from django_rq.utils import reset_db_connections  # noqa: PLC0415
    from django_rq.workers import get_worker  # noqa: PLC0415

    timed = type("TimedWorker", (Timed, import_string(worker_class)), {})
    worker: Any = get_worker(*queues, worker_class=timed)
    reset_db_connections()  # as the `rqworker` command does
    print(READY, flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    worker.work(burst=True, logging_level="WARNING")
    horses = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(worker.ended - began, megabytes(horses.ru_maxrss))


def megabytes(maxrss: int) -> float:
    """A peak of memory as the system tells it: in bytes on macOS, else in kilobytes."""
    return maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main(*sys.argv[1:])
