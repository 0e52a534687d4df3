"""Benchmark of lanes: a batch of many short chains, and one long chain.

    python -m benchmarks.pipelines --files 20000 --json

The batch has a chain of three empty steps for each file. In one chain of a hundred the second step
fails. One worker runs the batch, and is ready before the measurement starts. A batch of as many
plain jobs runs directly after it on the same servers.

`bytes_per_hop` are the bytes that Redis received from all clients while a worker ran the long chain,
per link. If the links alternate between queues, each hop is a ticket, and the figure includes all
that RQ sends to run a job. `sent_per_hop` are the bytes that the app sends.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.command import count, parser
from benchmarks.stage import stage
from sandbox.stage import Interrupts, run


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    with stage(chosen.database):
        # These imports need Django.
        from benchmarks.figures import machine  # noqa: PLC0415
        from benchmarks.lanes import long_chains, many_chains  # noqa: PLC0415

        found = {
            **many_chains(chosen.files),
            **long_chains(chosen.links, hops=chosen.hops),
            "sizes": {"files": chosen.files, "links": chosen.links, "hops": chosen.hops},
            "machine": machine(),
        }
    print(json.dumps(found, indent=2) if chosen.json else table(found))


def table(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(
        [
            ", ".join(f"{name} {value}" for name, value in found["machine"].items()),
            ", ".join(f"{value:,} {name}" for name, value in found["sizes"].items()),
            "",
            *(
                f"{name:<36}{value:>12,.2f}"
                for name, value in found.items()
                if isinstance(value, int | float)
            ),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    arguments = parser("pipelines", __doc__)
    arguments.add_argument(
        "--files", type=count, default=20_000, help="chains of 3 (default: 20000)"
    )
    arguments.add_argument(
        "--links", type=count, default=10_000, help="of one chain (default: 10000)"
    )
    arguments.add_argument(
        "--hops", type=count, default=500, help="of a chain on two queues (default: 500)"
    )
    return arguments


if __name__ == "__main__":
    run(main)
