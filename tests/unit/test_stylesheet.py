"""The colours of the admin pages: readable in both themes, and limited to this package."""

from __future__ import annotations

import re

import pytest

from tests.settings import ROOT

CSS = (ROOT / "django_jobbatch/static/django_jobbatch/admin.css").read_text()
#: Django's own backgrounds of a page and of every second row.
BACKGROUNDS = {"light": ("#ffffff", "#f8f8f8"), "dark": ("#121212", "#212121")}
STATES = ("succeeded", "partial", "failed", "cancelled", "skipped", "running", "pending")


def tokens(selector: str) -> dict[str, str]:
    block = CSS.partition(f"{selector} {{")[2].partition("}")[0]
    return dict(re.findall(r"--jb-(\w+): (#\w+);", block))


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("theme", "selector"),
    [
        ("light", 'html[data-theme="light"]'),
        ("dark", "html.dark"),
        ("dark", "@media (prefers-color-scheme: dark) {\n    :root"),
    ],
)
def test_segments_and_icons_stand_out_from_every_background(theme: str, selector: str) -> None:
    colours = tokens(selector)

    contrasts = {
        (state, background): contrast(colours[state], background)
        for state in (*STATES, "edge")
        for background in BACKGROUNDS[theme]
    }

    assert {pair: value for pair, value in contrasts.items() if value < 3} == {}


def test_text_without_a_space_wraps_instead_of_widening_the_page() -> None:
    heads = re.findall(r"([^{}]*)\{\s*overflow-wrap: break-word;\s*\}", CSS)

    selectors = {line.strip() for head in heads for line in head.split(",\n")}
    texts = {".breadcrumbs", "#content h1", ".jb-page"}
    assert {
        name.rpartition("*/")[2].strip().removeprefix(".app-django_jobbatch ") for name in selectors
    } == texts


def test_every_rule_is_about_our_own_pages() -> None:
    without_comments = re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL)
    heads = re.findall(r"([^{}]+)\{", without_comments)
    selectors = [
        selector.strip()
        for head in heads
        for selector in head.split(",\n")
        if not head.strip().startswith("@")
    ]

    themes = {":root", 'html[data-theme="light"]', 'html[data-theme="dark"]', "html.dark"}
    ours = [
        name for name in selectors if ".jb-" in name or name.startswith(".app-django_jobbatch ")
    ]
    assert set(selectors) - set(ours) == themes
    assert not re.search(r"url\(|@import|!important", CSS)
