"""Figures and ratios of the measured rates."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from math import floor, log10
from pathlib import Path
from statistics import median
from typing import Any, Final

from django.db import connection

from benchmarks.stage import QUEUE

#: Jobs per second, by part.
Rates = dict[str, float]

#: Ratios: the rate of batches, divided by the rate of RQ alone.
RATIOS: Final = {
    "dispatch_vs_enqueue_many": ("dispatch_per_s", "rq_enqueue_many_per_s"),
    "run_vs_worker": ("run_per_s", "rq_worker_per_s"),
    "run_vs_simple_worker": ("run_per_s", "rq_simple_worker_per_s"),
    "isolated_vs_worker": ("run_isolated_per_s", "rq_worker_query_per_s"),
    "isolated_vs_simple_worker": ("run_isolated_per_s", "rq_simple_worker_query_per_s"),
}

#: Options that change no figure, without and with a value.
UNNAMED_OPTIONS: Final = ("--here", "--write-docs", "--json")
UNNAMED_FILES: Final = "--append"


def figures(rounds: Sequence[Rates]) -> dict[str, Any]:
    """Return the median of each rate and ratio.

    A ratio is computed within a round, so both rates are of the same state of the machine.
    """
    ratios = {
        name: sorted(rates[batch] / rates[rq] for rates in rounds)
        for name, (batch, rq) in RATIOS.items()
    }
    return {
        **{name: round(median(rates[name] for rates in rounds), 1) for name in rounds[0]},
        "ratios": {name: round(median(values), 3) for name, values in ratios.items()},
        "ranges": {
            name: [round(values[0], 3), round(values[-1], 3)] for name, values in ratios.items()
        },
    }


def machine(*packages: str) -> dict[str, Any]:
    """Return the hardware and the versions of the measurement, with those of these packages."""
    import django_rq  # noqa: PLC0415 - it needs the settings

    redis = django_rq.get_connection(QUEUE).info()
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("django", "django-rq", "rq", "redis", *packages)},
        "database": f"{connection.display_name} {_dotted(connection.get_database_version())}",
        "redis_server": redis.get("valkey_version", redis["redis_version"]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of values."""
    return {
        "median": _rounded(median(values)),
        "low": _rounded(min(values)),
        "high": _rounded(max(values)),
    }


def origin(module: str, circumstances: Mapping[str, Any], *packages: str) -> dict[str, Any]:
    """Return the origin of figures: machine, versions, circumstances and command.

    Options that do not change the figures are left out of the command.
    """
    return {
        "machine": machine(*packages),
        **circumstances,
        "command": " ".join(
            ["python", "-m", f"benchmarks.{module}", *_named_options(sys.argv[1:])]
        ),
    }


def _named_options(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of a command without those that change no figure, and files by name."""
    remaining = iter(arguments)
    for argument in remaining:
        option = argument.partition("=")[0]
        if option == UNNAMED_FILES:
            if argument == option:
                next(remaining)
        elif option not in UNNAMED_OPTIONS:
            yield Path(argument).name if "/" in argument else argument


def _rounded(number: float) -> float:
    """Return the number with three significant digits, or all digits before the point."""
    return round(number, max(2 - floor(log10(abs(number))), 0)) if number else 0.0


def table(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    sizes = found["sizes"]
    yield ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    yield (
        f"{found['rounds']} rounds, one worker; jobs: {sizes['batch']:,} in a batch and by"
        f" enqueue_many, {sizes['forking']:,} that fork, {sizes['simple']:,} in SimpleWorker"
    )
    yield ""
    yield from (
        f"{name:<30}{value:>12,.1f}" for name, value in found.items() if name.endswith("_per_s")
    )
    yield ""
    for name, ratio in found["ratios"].items():
        low, high = found["ranges"][name]
        yield f"{name:<30}{ratio:>12.2f}   ({low:.2f} to {high:.2f})"


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
