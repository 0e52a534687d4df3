"""Text that every database stores: without NUL characters and surrogates."""

from __future__ import annotations

import re
from typing import Final

#: PostgreSQL stores no NUL, and no database stores one half of a surrogate pair.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

#: The end of a text that was cut.
ELLIPSIS: Final = "…"


def is_storable(text: str) -> bool:
    """Return whether every database can store this text: it has no NUL and no surrogates."""
    return _UNSTORABLE.search(text) is None


def escape(text: str) -> str:
    """Return the text with its NUL characters and surrogates as escapes, such as `\\x00`."""
    return _UNSTORABLE.sub(_escaped, text)


def shorten(text: str, max_length: int) -> str:
    """Return at most `max_length` characters of the text; the last one shows that it was cut."""
    return text if len(text) <= max_length else text[: max_length - 1] + ELLIPSIS


def _escaped(found: re.Match[str]) -> str:
    return "\\x00" if found[0] == "\x00" else f"\\u{ord(found[0]):04x}"
