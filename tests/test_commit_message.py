"""The check of commit messages, as the hook calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.settings import ROOT

SCRIPT = ROOT / ".ci" / "commit_message"
BODY = "\n\nIt did not work before.\n"


def check(message: str, folder: Path) -> tuple[int, str]:
    file = folder / "COMMIT_EDITMSG"
    file.write_text(message)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "message",
    [
        f"Retry a lost connection{BODY}",
        f"Pass the batch to a callback{BODY}",
        f"Re-read the batch before a job starts{BODY}",
        f"Feed the chaos test with child batches{BODY}",
        f"{'Add ' + 'x' * 68}{BODY}",
        f"Reconcile: Send missing tickets{BODY}",
        f"# A comment of git\nKeep it short{BODY}# Another comment\n",
        f"Keep it short{BODY}# ------------------------ >8 ------------------------\ndiff --git",
        "Docs: Describe how to cancel",
        "Tests: wait for the worker",
        "Merge branch 'docs'",
        'Revert "Keep it short"\n\nThis reverts commit 0a1b2c3.',
        "fixup! Keep it short",
    ],
)
def test_a_good_message_passes(message: str, tmp_path: Path) -> None:
    assert check(message, tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", "empty"),
        ("# Only a comment\n", "empty"),
        (f"{'Add ' + 'x' * 69}{BODY}", "has 73 characters"),
        (f"Retry a lost connection.{BODY}", "full stop"),
        (f"Retry once; wait longer{BODY}", "semicolon"),
        (f"retry a lost connection{BODY}", "small letter"),
        (f"Retries a lost connection{BODY}", "'Retries'"),
        (f"Retried a lost connection{BODY}", "'Retried'"),
        (f"Retrying a lost connection{BODY}", "'Retrying'"),
        (f"A lost connection is retried{BODY}", "'A'"),
        ("Docs: what a cancel does", "'what'"),
        ("Retry a lost connection", "no body"),
        ("Retry a lost connection\n\n# A comment\n", "no body"),
        ("Reconcile: Send missing tickets", "no body"),
        ("Retry a lost connection\nIt did not work.\n", "second line"),
    ],
)
def test_a_message_that_breaks_a_rule_is_rejected(message: str, error: str, tmp_path: Path) -> None:
    code, printed = check(message, tmp_path)

    assert code == 1
    assert error in printed
    assert printed.count("\n") == 1


def test_a_message_is_read_from_stdin_too() -> None:
    done = subprocess.run([str(SCRIPT)], input="Added", capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
