"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse

from benchmarks.stage import DATABASES


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks.<module>`: on which database, and for whom it prints."""
    common = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    common.add_argument("--json", action="store_true", help="for programs")
    return common


def count(text: str) -> int:
    """A number above 0, as an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number
