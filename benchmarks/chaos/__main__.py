"""Random trees of jobs, run by real workers while a nemesis injects faults.

    python -m benchmarks.chaos --rounds 200 --database postgres --json

The seed of a round decides its trees, workers and faults. The timing depends on the machine.
`--seed N --rounds 1` plays round N again.

A round has two phases. In the second, failed or cancelled jobs are retried. A phase ends when
everything is settled. Then a checker compares the rows with the history: counters, callbacks of each
run, reported failures, writes of transactional jobs. Redis must contain no ticket. A violation is
printed with the plan of its round, the injected faults, the rows and the logs. The exit code is 1.
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
    Interrupts()  # stop the servers if this process is stopped
    kinds = chosen.faults or faults.possible_faults(chosen.database)
    with stage(chosen.database, settings=SETTINGS) as servers:
        # Errors are expected here, so the terminal shows only violations.
        logging.basicConfig(filename=servers.folder / "nemesis.log")
        # These imports need Django.
        from benchmarks.chaos.round import Plan, play  # noqa: PLC0415
        from benchmarks.chaos.summary import Summary, violation_details  # noqa: PLC0415

        summary = Summary()
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            plan = Plan.of(seed, kinds)
            report = play(plan, servers)
            summary.add(report)
            times = " and ".join(map(str, report.recovery_s))
            _print_to_stderr(f"round {seed}: recovered in {times} s, {', '.join(report.faults)}")
            for line in violation_details(plan, report):
                _print_to_stderr(line)
        figures = summary.figures()
    print(json.dumps(figures, indent=2) if chosen.json else "\n".join(_table(figures)))
    if figures["violations"]:
        sys.exit(1)


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the figures as lines of text."""
    for name, value in figures.items():
        by_kind = value if isinstance(value, dict) else {"": value}
        yield from (f"{name:<12}{kind:<28}{number:>10}" for kind, number in by_kind.items())


def _parser() -> argparse.ArgumentParser:
    arguments = parser("chaos", __doc__)
    arguments.add_argument("--rounds", type=count, default=15, help="default: 15")
    arguments.add_argument("--seed", type=int, default=1, help="of the first round (default: 1)")
    arguments.add_argument(
        "--faults", nargs="+", choices=faults.FAULTS, metavar="FAULT", help="only these"
    )
    return arguments


if __name__ == "__main__":
    run(main)
