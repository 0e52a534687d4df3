"""Random trees of jobs, run by real workers while an adversary breaks what can break.

    python -m benchmarks.chaos --rounds 200 --database postgres --json

Each round has a seed, which decides the tree, the workers and the faults; when a fault comes, what
is at work then is the machine's. `--seed N --rounds 1` plays round N again.

A round has two acts: in the second something that has failed or was cancelled is retried. Each ends
when everything is settled, and then all of it is checked: counters against rows, callbacks of every
run, failures told of, writes of transactional jobs, and that no ticket is left in Redis. What does
not hold is a violation: it is printed with the plan of its round, what was hit, the rows and the
logs, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.chaos import faults
from benchmarks.command import count, parser
from benchmarks.stage import stage
from sandbox.stage import Interrupts, run

SETTINGS = "benchmarks.chaos.settings"


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # whatever ends us, the servers go too
    kinds = chosen.faults or faults.possible(chosen.database)
    with stage(chosen.database, settings=SETTINGS) as up:
        # What goes wrong here, as it shall, is no news; only what is wrong at the end.
        logging.basicConfig(filename=up.folder / "nemesis.log")
        # Django is set up only now.
        from benchmarks.chaos.round import Plan, play  # noqa: PLC0415
        from benchmarks.chaos.summary import Summary, broken  # noqa: PLC0415

        summary = Summary()
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            plan = Plan.of(seed, kinds)
            report = play(plan, up)
            summary.add(report)
            times = " and ".join(map(str, report.recovery_s))
            _say(f"round {seed}: recovered in {times} s, {', '.join(report.hits)}")
            for line in broken(plan, report):
                _say(line)
        found = summary.figures()
    print(json.dumps(found, indent=2) if chosen.json else "\n".join(_table(found)))
    if found["violations"]:
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(found: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    for name, value in found.items():
        shown = value if isinstance(value, dict) else {"": value}
        yield from (f"{name:<12}{kind:<28}{number:>10}" for kind, number in shown.items())


def _parser() -> argparse.ArgumentParser:
    ours = parser("chaos", __doc__)
    ours.add_argument("--rounds", type=count, default=15, help="default: 15")
    ours.add_argument("--seed", type=int, default=1, help="of the first round (default: 1)")
    ours.add_argument(
        "--faults", nargs="+", choices=faults.FAULTS, metavar="FAULT", help="only these"
    )
    return ours


if __name__ == "__main__":
    run(main)
