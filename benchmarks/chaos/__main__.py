"""Random trees of jobs, run by real workers while a nemesis injects faults.

    python -m benchmarks.chaos --rounds 200 --database postgres --json

The seed of a round decides its trees, workers and faults. The timing depends on the machine.
`--seed N --rounds 1` plays round N again.

A round has two phases. In the second, failed or cancelled jobs are retried. A phase ends when
everything is settled. Then a checker compares the rows with the history: counters, callbacks of each
run, reported failures, writes of transactional jobs, errors of hostile jobs. Redis must contain no
ticket. A violation is printed with the plan of its round, the injected faults, the rows and the
logs. The exit code is 1.

`--append FILE` stores the result of each round, and does not play rounds that the file has. So the
same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos import faults
from benchmarks.chaos.load import competing_processes
from benchmarks.command import count, parser
from benchmarks.stage import Stage, stage
from sandbox.stage import Interrupts, run

SETTINGS: Final = "benchmarks.chaos.settings"
ROUNDS: Final = 15
QUICK_ROUNDS: Final = 3


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    with (
        competing_processes(is_loaded=chosen.load),
        stage(chosen.database, settings=SETTINGS) as servers,
    ):
        # Errors are expected here, so the terminal shows only violations.
        logging.basicConfig(filename=servers.folder / "nemesis.log")
        figures = _play(chosen, servers)
    print(json.dumps(figures, indent=2) if chosen.json else "\n".join(_table(figures)))
    if figures["violations"]:
        sys.exit(1)


def _play(chosen: argparse.Namespace, servers: Stage) -> dict[str, Any]:
    """Play the rounds, and return the figures."""
    # These imports need Django.
    from benchmarks.chaos import evidence  # noqa: PLC0415
    from benchmarks.chaos.rejecting_database import add_rejection  # noqa: PLC0415
    from benchmarks.chaos.round import Plan, play  # noqa: PLC0415
    from benchmarks.chaos.summary import OtherResults, Results  # noqa: PLC0415

    kinds = chosen.faults or faults.possible_faults(chosen.database)
    conditions = {"database": chosen.database, "load": chosen.load, "faults": sorted(kinds)}
    try:
        results = Results(conditions, chosen.append)
    except OtherResults as error:
        sys.exit(str(error))
    add_rejection()
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    for seed in range(chosen.seed, chosen.seed + rounds):
        if results.has(seed):
            continue
        plan = Plan.of(seed, kinds)
        report = play(plan, servers)
        results.add(report)
        times = " and ".join(map(str, report.recovery_s))
        _print_to_stderr(f"round {seed}: recovered in {times} s, {', '.join(report.faults)}")
        for line in evidence.violation_details(plan, report):
            _print_to_stderr(line)
        if report.violations and chosen.keep:
            _print_to_stderr(f"stored in {evidence.keep(chosen.keep, plan, report, servers)}")
    return results.figures()


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _table(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the figures as lines of text."""
    for name, value in figures.items():
        by_kind = value if isinstance(value, dict) else {"": value}
        yield from (f"{name:<12}{kind:<28}{number:>10}" for kind, number in by_kind.items())


def _parser() -> argparse.ArgumentParser:
    arguments = parser("chaos", __doc__)
    arguments.add_argument("--rounds", type=count, help=f"default: {ROUNDS}")
    arguments.add_argument("--quick", action="store_true", help=f"only {QUICK_ROUNDS} rounds")
    arguments.add_argument("--seed", type=int, default=1, help="of the first round (default: 1)")
    arguments.add_argument(
        "--faults", nargs="+", choices=faults.ALL, metavar="FAULT", help="only these"
    )
    arguments.add_argument(
        "--load", action="store_true", help="with competing processes beside the rounds"
    )
    arguments.add_argument(
        "--append",
        type=Path,
        metavar="FILE",
        help="continue the results in this JSON file: its rounds are not played again",
    )
    arguments.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="write plan, logs and rows of each round with violations into a folder there",
    )
    return arguments


if __name__ == "__main__":
    run(main)
