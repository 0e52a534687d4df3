"""Benchmark of `reconcile_batches` after a FLUSHALL: the time until new tickets are queued.

    python -m benchmarks.flush --links 10000 --per-batch 1 --json

A batch gets at most sixteen tickets, and at most one per link. The command runs in its own process,
whose start is included.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from typing import Any

from benchmarks.command import count, parser
from benchmarks.prune import table
from benchmarks.stage import QUEUE, stage
from sandbox.servers import MANAGE
from sandbox.stage import Interrupts, run


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    with stage(chosen.database):
        # These imports need Django.
        from benchmarks.figures import machine  # noqa: PLC0415

        found = {**measure(chosen.links, chosen.per_batch), "machine": machine()}
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def measure(links: int, per_batch: int) -> dict[str, Any]:
    """Dispatch the links, flush the server, and measure the command that sends new tickets."""
    import django_rq  # noqa: PLC0415 - it needs Django
    from django.db import transaction  # noqa: PLC0415

    from benchmarks import jobs  # noqa: PLC0415
    from django_jobbatch import bus  # noqa: PLC0415

    queue = django_rq.get_queue(QUEUE)
    batches = math.ceil(links / per_batch)
    with transaction.atomic():
        for _ in range(batches):
            bus.batch(bus.job(jobs.noop, number) for number in range(per_batch)).dispatch()
    sent = len(queue)
    queue.connection.flushall()
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(MANAGE), "reconcile_batches", "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    return {
        "links": batches * per_batch,
        "batches": batches,
        "tickets": len(queue),
        "seconds": round(seconds, 2),
        "correct": len(queue) == sent == batches,  # no worker is idle
    }


def _parser() -> argparse.ArgumentParser:
    arguments = parser("flush", __doc__)
    arguments.add_argument("--links", type=count, default=10_000, help="in all (default: 10000)")
    arguments.add_argument("--per-batch", type=count, default=10_000, help="default: 10000")
    return arguments


if __name__ == "__main__":
    run(main)
