"""A Django shell that reads its input and the expected output.

Run in the project of a reader, with nothing but that project and Django: each line on stdin is a
JSON string with examples as `>>>` shows them, each line on stdout one with what was different.
"""

from __future__ import annotations

import doctest
import json
import sys
from typing import Any

import django


def main() -> None:
    django.setup()
    names: dict[str, Any] = {}
    for number, line in enumerate(sys.stdin, start=1):
        session = doctest.DocTestParser().get_doctest(
            json.loads(line), names, f"session {number}", None, 0
        )
        differences: list[str] = []
        doctest.DocTestRunner(verbose=False).run(session, out=differences.append, clear_globs=False)
        names = session.globs
        print(json.dumps("".join(differences)), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
