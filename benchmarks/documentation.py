"""Generated parts of the page about performance, and its charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.stage import ROOT

FOLDER: Final = ROOT / "docs" / "explanation"
PAGE: Final = FOLDER / "performance.md"
NAMES: Final = {
    "django": "Django",
    "rq": "RQ",
    "celery": "Celery",
    "huey": "Huey",
    "dramatiq": "Dramatiq",
    "redis": "redis-py",
}


def replace_part(name: str, lines: Iterable[str]) -> None:
    """Replace the part of the page between the markers of this name."""
    text = PAGE.read_text()
    start, end = (f"<!-- {name}: {word} -->" for word in ("generated", "end"))
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{PAGE} has not exactly one {start} and {end}")
    part = "\n".join([start, *lines, end])
    pattern = re.escape(start) + ".*?" + re.escape(end)
    PAGE.write_text(re.sub(pattern, lambda _: part, text, flags=re.DOTALL))


def write_chart(name: str, svg: str) -> None:
    """Write a chart beside the page."""
    (FOLDER / f"{name}.svg").write_text(svg)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def origin_sentence(found: dict[str, Any]) -> str:
    """Return the machine, versions, date and command of the figures, as a sentence."""
    machine = dict(found["machine"])
    processors, python = machine.pop("processors"), machine.pop("python")
    database, redis = machine.pop("database"), machine.pop("redis_server")
    packages = ", ".join(f"{NAMES.get(name, name)} {number}" for name, number in machine.items())
    rounds = f"{found['rounds']} round{'s' if found['rounds'] > 1 else ''}"
    return (
        f"`{found['command']}`, {rounds}, {circumstances(found)}: {processors} processors, Python {python}, {database}, Redis server"
        f" {redis}, {packages}."
    )


def circumstances(found: dict[str, Any]) -> str:
    """Return the dates, commits and load of the figures.

    A benchmark alone causes a load of about one for each of its processes.
    """
    commits = ", ".join(found["revisions"])
    return f"{', '.join(found['dates'])}, commit {commits}, load at most {found['load']}"


def number(value: float) -> str:
    """Return a number with three significant digits and thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
