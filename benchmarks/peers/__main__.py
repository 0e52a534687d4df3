"""Benchmark of the same work on RQ alone, Celery, django-ox, Huey, Dramatiq and this package.

    python -m benchmarks.peers --json --rounds 5

All sides run on the same PostgreSQL and Redis, which the command starts. Each side has one worker
process, which has run a few jobs of each kind before. It is stopped by a signal while its jobs are
sent, so the clock measures the worker alone. In each round every side does each piece of work once,
one side after the other. Each job and callback appends one byte to a file; the number of bytes must
be right.

The command makes a virtual environment in `build/peers` with the versions in
`benchmarks/peers/requirements.txt` and `packages.txt`, and measures there. A package that cannot be
installed is named with the reason. `--here` measures in the present environment instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Final

from benchmarks.command import add_rounds, one_of, parser
from benchmarks.peers import environment, marks
from benchmarks.peers.sides import SIDES
from benchmarks.stage import ROOT, python_path, servers, set_up
from sandbox.stage import Interrupts, run

SETTINGS: Final = "benchmarks.peers.settings"
ROUNDS: Final = 5
QUICK_ROUNDS: Final = 3


def main() -> None:
    chosen = _parser().parse_args()
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    if chosen.here:
        _compare_here(chosen)
        return
    made = environment.make()
    command = [str(made.python), "-P", "-m", "benchmarks.peers", *sys.argv[1:], "--here"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), python_path()]),
        "BENCHMARK_MISSING": json.dumps(made.missing),
    }
    # The process itself, so a signal reaches what started the servers.
    os.execve(made.python, command, env)  # noqa: S606 - no shell is wanted


def _compare_here(chosen: argparse.Namespace) -> None:
    Interrupts()  # stop the servers if this process is stopped
    with servers(chosen.database) as started:
        queues = ",".join(
            ["default", *(name for name in SIDES if name.startswith(("rq_", "batches_")))]
        )
        os.environ |= {**started.environment(SETTINGS), "QUEUES": queues}
        os.environ[marks.VARIABLE] = str(started.folder / "marks")
        set_up()
        from benchmarks.peers.comparison import compare  # noqa: PLC0415 - it needs Django

        compare(chosen, started.folder)


def _parser() -> argparse.ArgumentParser:
    arguments = parser("peers", __doc__)
    add_rounds(arguments, default=f"{ROUNDS}, with --quick {QUICK_ROUNDS}")
    arguments.add_argument(
        "--only", type=one_of(SIDES), metavar="SIDE[,SIDE]", help="only these sides"
    )
    arguments.add_argument("--here", action="store_true", help="measure in this environment")
    return arguments


if __name__ == "__main__":
    run(main)
