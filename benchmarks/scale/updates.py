"""Plain updates of one batch row, to compare with: `python -m benchmarks.scale.updates ID COUNT`.

Each update is a transaction of its own. The process prints `ready` when it is connected, waits for a
line on stdin, and prints `ready` when all is updated.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import django
from django.db import connection

from benchmarks.stage import child_environment
from benchmarks.worker import READY
from sandbox.servers import ServerFailed


def rate_of_updates(processes: int, batch_id: object, count: int) -> float:
    """Return the updates a second of this number of processes, all of the same row."""
    each = count // processes
    with ExitStack() as stack:
        started = [stack.enter_context(_started(batch_id, each)) for _ in range(processes)]
        _wait_for(started)
        started_at = time.perf_counter()
        for process in started:
            process.stdin.write("start\n")
            process.stdin.flush()
        _wait_for(started)  # not for their ends: an interpreter takes long to end
        return processes * each / (time.perf_counter() - started_at)


def _wait_for(processes: list[Any]) -> None:
    for process in processes:
        if process.stdout.readline().strip() != READY:
            raise ServerFailed("a process that updates a batch row has failed")


def _started(batch_id: object, count: int) -> Any:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.scale.updates", str(batch_id), str(count)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main(batch_id: str, count: str) -> None:
    django.setup()
    from django_jobbatch.models import JobBatch  # noqa: PLC0415 - it needs Django

    key = JobBatch._meta.pk.get_db_prep_value(JobBatch._meta.pk.to_python(batch_id), connection)
    statement = f"UPDATE {JobBatch._meta.db_table} SET version = version + 1 WHERE id = %s"  # noqa: S608 - a constant
    connection.ensure_connection()
    print(READY, flush=True)
    sys.stdin.readline()
    for _ in range(int(count)):
        with connection.cursor() as cursor:
            cursor.execute(statement, [key])
    print(READY, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
