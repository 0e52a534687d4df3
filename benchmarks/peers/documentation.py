"""Figures of the comparison as text, as tables of the docs and as a chart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from benchmarks.chart import Bar, Panel, svg
from benchmarks.documentation import (
    markdown_table,
    number,
    origin_sentence,
    replace_part,
    write_chart,
)
from benchmarks.peers.sides import OURS, SIDES
from benchmarks.peers.work import works

#: Title of each piece of work, with its unit.
TITLES: Final = {work.name: f"{work.title}, a second" for work in works()}


def text(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(
        [
            origin_sentence(found),
            "",
            *(
                f"{work:<12}{name:<18}{number(side['per_s']['median']):>12}"
                f"   ({number(side['per_s']['low'])} to {number(side['per_s']['high'])})"
                f"{number(side['cpu_ms']['median']):>10} ms"
                for work, sides in found["works"].items()
                for name, side in sides.items()
            ),
            *_reasons(found),
        ]
    )


def write(found: dict[str, Any]) -> None:
    """Write the tables and the chart of the docs."""
    replace_part("peers", _part(found))
    write_chart("peers", svg("Rates of one worker process", list(_panels(found))))


def _part(found: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield origin_sentence(found)
    yield ""
    columns = [title.removesuffix(", a second") for title in TITLES.values()]
    yield from markdown_table(
        ["a second", *columns], (_row(found, name, _rate) for name in _names(found))
    )
    yield ""
    yield "The rate of this package, divided by that of the other package in the same round:"
    yield ""
    yield from markdown_table(
        ["ratio", *columns], (_row(found, name, _ratio) for name in _names(found) if name != OURS)
    )
    yield ""
    yield "Milliseconds of processor time of the worker, PostgreSQL and Redis, for each job or batch:"
    yield ""
    yield from markdown_table(
        ["ms", *columns], (_row(found, name, _processor_time) for name in _names(found))
    )
    yield ""
    for reason in _reasons(found):
        yield f"* {reason}"
    yield ""
    yield "![Rates of one worker process, by package](peers.svg)"
    yield ""


def _row(found: dict[str, Any], name: str, cell: Any) -> list[str]:
    return [SIDES[name].title, *(cell(found, work, name) for work in TITLES)]


def _rate(found: dict[str, Any], work: str, name: str) -> str:
    side = found["works"][work].get(name)
    return _spread(side["per_s"]) if side else ""


def _processor_time(found: dict[str, Any], work: str, name: str) -> str:
    side = found["works"][work].get(name)
    return number(side["cpu_ms"]["median"]) if side else ""


def _ratio(found: dict[str, Any], work: str, name: str) -> str:
    ratio = found["ratios"][work].get(name)
    return _spread(ratio) if ratio else ""


def _spread(values: dict[str, float]) -> str:
    return f"{number(values['median'])} ({number(values['low'])} to {number(values['high'])})"


def _names(found: dict[str, Any]) -> list[str]:
    """Return the measured sides, in the order of the table."""
    measured = set().union(*found["works"].values())
    return [name for name in SIDES if name in measured]


def _reasons(found: dict[str, Any]) -> Iterator[str]:
    for name, reasons in found["not_measured"].items():
        for work, reason in reasons.items():
            part = f", {TITLES[work].removesuffix(', a second')}" if work else ""
            yield f"Not measured: {SIDES[name].title}{part}. The reason: {reason}."


def _panels(found: dict[str, Any]) -> Iterator[Panel]:
    for work, sides in found["works"].items():
        longest = max(side["per_s"]["median"] for side in sides.values())
        yield Panel(
            TITLES[work],
            [
                Bar(
                    SIDES[name].title,
                    side["per_s"]["median"] / longest,
                    number(side["per_s"]["median"]),
                    "own" if SIDES[name].package == SIDES[OURS].package else "bar",
                )
                for name, side in sides.items()
            ],
        )
