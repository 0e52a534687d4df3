"""Rows of aims as text, as a table of the docs and as a chart."""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from typing import Any, Final

from benchmarks.chart import Bar, Panel, svg
from benchmarks.documentation import (
    circumstances,
    markdown_table,
    number,
    origin_sentence,
    replace_part,
    write_chart,
)

MARKS: Final = {True: "yes", False: "no", None: "not measured"}
#: Ends of the logarithmic axis of the chart, in shares of the aim.
LOW: Final = 0.1
HIGH: Final = 10.0


def text(found: dict[str, Any]) -> str:
    """Return the rows as text."""
    lines = [origin_sentence(found), ""]
    for name, row in found["rows"].items():
        lines.append(f"{name}: {row['title']}: {MARKS[row['met']]}")
        lines += [
            f"    {check['title']:<44} {_value(check)} ({check['aim']})" for check in row["checks"]
        ]
        lines += [f"    {line}" for line in _figures(row)]
    return "\n".join(lines)


def write(found: dict[str, Any]) -> None:
    """Write the table and the chart of the docs."""
    replace_part("scale", _part(found))
    write_chart("scale", svg("Shares of the aims that are reached", [_panel(found)]))


def _part(found: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield origin_sentence(found)
    if found["parent"]:
        yield f"The parent is {found['parent']}."
    if found["peers"]:
        peers = found["peers"]
        yield f"Other packages: `{peers['command']}`, {circumstances(peers)}."
    yield ""
    yield from markdown_table(
        ["work", "value", "aim", "met"],
        (
            [_title(row, check), _value(check), check["aim"], MARKS[check["met"]]]
            for row in found["rows"].values()
            for check in row["checks"]
        ),
    )
    yield ""
    reasons = {
        check["reason"]
        for row in found["rows"].values()
        for check in row["checks"]
        if "reason" in check
    }
    yield from (f"* Not measured: {reason}." for reason in sorted(reasons))
    yield ""
    yield "![Share of each aim that is reached](scale.svg)"
    yield ""


def _title(row: dict[str, Any], check: dict[str, Any]) -> str:
    return f"{row['title']}: {check['title']}"


def _value(check: dict[str, Any]) -> str:
    value = check["value"]
    if value is None:
        return f"not measured: {check['reason']}"
    return f"{number(value['median'])} ({number(value['low'])} to {number(value['high'])})"


def _figures(row: dict[str, Any]) -> Iterator[str]:
    for name, trees in row["figures"].items():
        values = ", ".join(f"{tree} {number(value['median'])}" for tree, value in trees.items())
        yield f"{name}: {values}"


def _panel(found: dict[str, Any]) -> Panel:
    bars = [
        Bar(
            f"{name}: {check['title']}".replace("`", ""),
            _position(check["share"]),
            f"{number(check['value']['median'])} ({check['aim']})",
            "own" if check["met"] else "miss",
        )
        for name, row in found["rows"].items()
        for check in row["checks"]
        if check["value"] is not None
    ]
    title = "Share of the aim that is reached, on a logarithmic axis; the line is the aim"
    return Panel(title, bars, line=_position(1.0))


def _position(share: float) -> float:
    bounded = min(max(share, LOW), HIGH)
    return log10(bounded / LOW) / log10(HIGH / LOW)
