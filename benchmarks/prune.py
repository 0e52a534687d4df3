"""What it costs to prune one large batch, beside another of the same size.

    python -m benchmarks.prune --rows 1000000 --json

Rows are links of the batch. The longest statement includes `BEGIN` and `COMMIT`; memory is what the
peak of this process grew by.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.command import count, parser
from benchmarks.stage import stage
from sandbox.stage import Interrupts, run


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # whatever ends us, the servers go too
    with stage(chosen.database):
        # Django is set up only now.
        from benchmarks.figures import machine  # noqa: PLC0415
        from benchmarks.pruning import fill, measure  # noqa: PLC0415

        fill(1000)
        measure(1000)  # what is imported at the first call costs no memory at the second
        pruned = fill(chosen.rows)
        beside = fill(chosen.rows, finished=False)
        found = {**measure(chosen.rows), "machine": machine()}
        removed = not type(pruned).objects.filter(pk=pruned.pk).exists()
        found["correct"] = removed and beside.jobs.count() == chosen.rows
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def table(found: dict[str, object]) -> str:
    """The same for people."""
    return "\n".join(f"{name:<24}{value}" for name, value in found.items())


def _parser() -> argparse.ArgumentParser:
    ours = parser("prune", __doc__)
    ours.add_argument("--rows", type=count, default=1_000_000, help="default: 1000000")
    return ours


if __name__ == "__main__":
    run(main)
