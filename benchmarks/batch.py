"""Benchmark of batches against RQ alone, in one run on the same servers.

    python -m benchmarks.batch --jobs 20000 --json

Rates are jobs per second of one worker, which is ready before the measurement starts. Each figure is
the median of all rounds. Each round measures every part once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from benchmarks.command import count, parser
from benchmarks.stage import stage
from sandbox.stage import Interrupts, run


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    with stage(chosen.database):
        # These imports need Django.
        from benchmarks.figures import figures, machine, table  # noqa: PLC0415
        from benchmarks.parts import CHUNK, Sizes, measure, warm_up  # noqa: PLC0415

        warm_up()
        sizes = Sizes.of(chosen.jobs)
        rounds = [measure(sizes) for _ in range(chosen.rounds)]
        found = {
            **figures(rounds),
            "rounds": chosen.rounds,
            "sizes": {**asdict(sizes), "enqueue_many": CHUNK},
            "machine": machine(),
        }
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def _parser() -> argparse.ArgumentParser:
    arguments = parser("batch", __doc__)
    arguments.add_argument("--jobs", type=count, default=20_000, help="in a batch (default: 20000)")
    arguments.add_argument("--rounds", type=count, default=3, help="default: 3")
    return arguments


if __name__ == "__main__":
    run(main)
