"""Command-line arguments of the benchmarks."""

from __future__ import annotations

import argparse

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


def count(text: str) -> int:
    """Return the number in an argument; it must be positive."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
