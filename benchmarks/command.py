"""Command-line arguments of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.stage import DATABASES


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m benchmarks.<module>`, with the common arguments."""
    common = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    common.add_argument("--json", action="store_true", help="print JSON")
    return common


def add_rounds(arguments: argparse.ArgumentParser, *, default: str) -> None:
    """Add the arguments of a benchmark that measures rounds and writes a part of the docs."""
    arguments.add_argument("--rounds", type=count, help=f"default: {default}")
    arguments.add_argument("--quick", action="store_true", help="fewer jobs and rounds")
    arguments.add_argument("--smallest", action="store_true", help="a few jobs, without meaning")
    arguments.add_argument(
        "--append", type=Path, metavar="FILE", help="continue the rounds in this JSON file"
    )
    arguments.add_argument(
        "--write-docs", action="store_true", help="write the tables and the chart of the docs"
    )


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the type of an argument that lists some of these names, separated by commas."""
    known = list(names)

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)} is not among {', '.join(known)}"
            )
        return chosen

    return parse


def count(text: str) -> int:
    """Return the number in an argument; it must be positive."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
