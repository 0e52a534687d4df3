"""Bar charts as SVG, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

#: Pixels of the longest bar, of the values beside it, and of a letter of a label.
BARS: Final = 340
VALUES: Final = 120
LETTER: Final = 7
#: Pixels of a bar, of a bar with its space, of a title, around all, and between a bar and its value.
BAR: Final = 16
ROW: Final = 22
TITLE: Final = 34
MARGIN: Final = 16
GAP: Final = 6

STYLE: Final = """\
svg { --text: #1f2328; --muted: #59636e; --page: #ffffff; --bar: #9aa4b2; --own: #2f6fdb; --miss: #d1453b; --line: #59636e }
@media (prefers-color-scheme: dark) {
  svg { --text: #e6edf3; --muted: #9198a1; --page: #14181d; --bar: #59636e; --own: #5b9bff; --miss: #f0766d; --line: #9198a1 }
}
text { font: 13px system-ui, sans-serif; fill: var(--text) }
.title { font-weight: 600 } .value { fill: var(--muted) }
.bar { fill: var(--bar) } .own { fill: var(--own) } .miss { fill: var(--miss) }
.page { fill: var(--page) } .line { stroke: var(--line); stroke-dasharray: 3 3 }"""


class Bar(NamedTuple):
    """Bar with its label; `length` is a share of the longest possible bar."""

    label: str
    length: float
    value: str
    style: str = "bar"


class Panel(NamedTuple):
    """Bars under a title; `line` is the share at which a vertical line stands."""

    title: str
    bars: Sequence[Bar]
    line: float | None = None


def svg(title: str, panels: Sequence[Panel]) -> str:
    """Return the panels, one above the other, as an SVG document."""
    labels = LETTER * max(len(bar.label) for panel in panels for bar in panel.bars)
    width = labels + BARS + VALUES + 2 * MARGIN
    height = 2 * MARGIN + sum(TITLE + ROW * len(panel.bars) for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
    ]
    top = MARGIN
    for panel in panels:
        parts += _panel(panel, labels, top)
        top += TITLE + ROW * len(panel.bars)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, labels: int, top: int) -> Iterator[str]:
    left = MARGIN + labels
    line = None if panel.line is None else round(left + panel.line * BARS, 1)
    yield f'<text class="title" x="{MARGIN}" y="{top + 20}">{escape(panel.title)}</text>'
    for number, bar in enumerate(panel.bars):
        y = top + TITLE + ROW * number
        width = max(round(bar.length * BARS, 1), 1)
        yield f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>'
        yield f'<rect class="{bar.style}" x="{left}" y="{y}" width="{width}" height="{BAR}" rx="2"/>'
        x = _beside(left + width, LETTER * len(bar.value), line)
        yield f'<text class="value" x="{x}" y="{y + 12}">{escape(bar.value)}</text>'
    if line is not None:
        bottom = top + TITLE + ROW * len(panel.bars)
        yield f'<line class="line" x1="{line}" x2="{line}" y1="{top + TITLE - 6}" y2="{bottom}"/>'


def _beside(end: float, width: float, line: float | None) -> float:
    """Return where a value stands: after its bar, and not on the line."""
    if line is not None and end <= line <= end + GAP + width:
        end = line
    return end + GAP
