"""What lanes cost: a batch of many short chains, and one long chain.

    python -m benchmarks.pipelines --files 20000 --json

The batch has a chain of three steps that do nothing for each file, and in one of a hundred the
second step fails. One worker runs it, which is ready before the clock starts. Beside it runs a
batch of as many plain jobs, in the same minute on the same servers.

`bytes_per_hop` is what Redis has received from everybody while a worker ran the long chain, for
each link. Where every link is on another queue than the one before, each hop is a ticket, and the
figure holds all that RQ itself sends to run a job; `sent_per_hop` is that which we send.
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
    Interrupts()  # whatever ends us, the servers go too
    with stage(chosen.database):
        # Django is set up only now.
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
    """The same for people."""
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
    ours = parser("pipelines", __doc__)
    ours.add_argument("--files", type=count, default=20_000, help="chains of 3 (default: 20000)")
    ours.add_argument("--links", type=count, default=10_000, help="of one chain (default: 10000)")
    ours.add_argument(
        "--hops", type=count, default=500, help="of a chain on two queues (default: 500)"
    )
    return ours


if __name__ == "__main__":
    run(main)
