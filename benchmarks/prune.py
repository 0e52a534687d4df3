"""Benchmark of `prune_batches` with one large batch, next to another of the same size.

    python -m benchmarks.prune --rows 1000000 --json

Rows are links of the batch. The statements include `BEGIN` and `COMMIT`. Memory is the growth of this
process's peak.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.command import count, parser
from benchmarks.stage import stage
from sandbox.stage import Interrupts, run


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    with stage(chosen.database):
        # These imports need Django.
        from benchmarks.figures import machine  # noqa: PLC0415
        from benchmarks.pruning import fill, measure  # noqa: PLC0415

        fill(1000)
        measure(1000)  # the first call imports modules, which would count as memory
        pruned = fill(chosen.rows)
        other = fill(chosen.rows, finished=False)
        found = {**measure(chosen.rows), "machine": machine()}
        is_deleted = not type(pruned).objects.filter(pk=pruned.pk).exists()
        found["correct"] = is_deleted and other.jobs.count() == chosen.rows
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def table(found: dict[str, object]) -> str:
    """Return the figures as text."""
    return "\n".join(f"{name:<24}{value}" for name, value in found.items())


def _parser() -> argparse.ArgumentParser:
    arguments = parser("prune", __doc__)
    arguments.add_argument("--rows", type=count, default=1_000_000, help="default: 1000000")
    return arguments


if __name__ == "__main__":
    run(main)
