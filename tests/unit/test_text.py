"""Text that every database stores."""

from __future__ import annotations

import pytest

from django_jobbatch.text import escape, is_storable, shorten


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("Grüße 🌍\n\t\x01", "Grüße 🌍\n\t\x01"),
        ("a\x00b", "a\\x00b"),
        ("\ud800", "\\ud800"),
        ("caf\udce9", "caf\\udce9"),
        ("\ud83c\udf0d\x00", "\\ud83c\\udf0d\\x00"),
    ],
)
def test_nul_characters_and_surrogates_are_escaped(text: str, stored: str) -> None:
    assert escape(text) == stored
    assert is_storable(stored)
    assert is_storable(text) == (text == stored)


@pytest.mark.parametrize(
    ("text", "shown"), [("", ""), ("12345", "12345"), ("123456", "1234…"), ("1" * 99, "1111…")]
)
def test_a_long_text_is_cut_where_a_reader_sees_it(text: str, shown: str) -> None:
    assert shorten(text, 5) == shown
