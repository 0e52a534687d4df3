"""How long `reconcile_batches` takes to bring pending links back to the queue after a FLUSHALL.

    python -m benchmarks.flush --links 10000 --per-batch 1 --json

A batch of many links is back when sixteen of its tickets are queued, one of few when each of its
links has a ticket. The command runs as a process of its own, whose start is counted.
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
    Interrupts()  # whatever ends us, the servers go too
    with stage(chosen.database):
        # Django is set up only now.
        from benchmarks.figures import machine  # noqa: PLC0415

        found = {**measure(chosen.links, chosen.per_batch), "machine": machine()}
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def measure(links: int, per_batch: int) -> dict[str, Any]:
    """Dispatch so many links, flush the server, and have the command bring them back."""
    import django_rq  # noqa: PLC0415 - it wants Django set up
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
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(MANAGE), "reconcile_batches", "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - began
    return {
        "links": batches * per_batch,
        "batches": batches,
        "tickets": len(queue),
        "seconds": round(seconds, 2),
        "correct": len(queue) == sent == batches * min(per_batch, 16),
    }


def _parser() -> argparse.ArgumentParser:
    ours = parser("flush", __doc__)
    ours.add_argument("--links", type=count, default=10_000, help="in all (default: 10000)")
    ours.add_argument("--per-batch", type=count, default=10_000, help="default: 10000")
    return ours


if __name__ == "__main__":
    run(main)
