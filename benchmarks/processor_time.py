"""Processor time of servers and workers, which other work disturbs less than it disturbs rates."""

from __future__ import annotations

import os

import django_rq
import psutil

from benchmarks.stage import DATABASE_PID, QUEUE


def seconds_of(*pids: int) -> float:
    """Return the processor time of these processes, their children and their ended children."""
    return sum(
        sum(process.cpu_times()[:4])
        for pid in pids
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    )


def database_server() -> list[int]:
    """Return the process id of the database server, if there is one."""
    pid = os.environ.get(DATABASE_PID)
    return [int(pid)] if pid else []


def redis_server() -> list[int]:
    """Return the process id of the Redis server."""
    return [int(django_rq.get_connection(QUEUE).info("server")["process_id"])]
