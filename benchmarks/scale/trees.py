"""Source trees that are measured: this checkout, and a worktree of an earlier commit.

Both are measured with the benchmarks of this checkout. Each has servers of its own, since the two
may have different tables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.stage import ROOT, Stage, servers
from sandbox.servers import ServerFailed

CURRENT: Final = "current"
PARENT: Final = "parent"
PACKAGE: Final = "django_jobbatch"


class Tree:
    """Package of one commit, with servers of its own."""

    def __init__(self, name: str, folder: Path, started: Stage) -> None:
        self.name = name
        self.environment = {
            **os.environ,
            **started.environment(),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        }

    def measure(self, study: str, sizes: str) -> dict[str, Any]:
        """Run one measurement in a new process, and return its figures."""
        done = subprocess.run(
            # -P: the working directory is no folder of modules.
            [sys.executable, "-P", "-m", "benchmarks.scale.study", study, sizes],
            check=False,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise ServerFailed(f"{study} of {self.name} exited with code {done.returncode}")
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures


@contextmanager
def trees(database: str, parent: str | None) -> Iterator[list[Tree]]:
    """Start the servers of the measured trees, and stop them afterwards."""
    with ExitStack() as stack:
        found = [Tree(CURRENT, _only_package(stack, ROOT), stack.enter_context(servers(database)))]
        if parent is not None:
            worktree = stack.enter_context(_worktree(parent))
            started = stack.enter_context(servers(database))
            found.append(Tree(PARENT, _only_package(stack, worktree), started))
        yield found


def _only_package(stack: ExitStack, checkout: Path) -> Path:
    """Return a folder with nothing but a link to the package of this checkout."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobbatch-tree-")))
    (folder / PACKAGE).symlink_to(checkout / PACKAGE)
    return folder


@contextmanager
def _worktree(revision: str) -> Iterator[Path]:
    """Check a commit out in a temporary folder, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="jobbatch-parent-") as name:
        folder = Path(name) / "parent"
        _git("worktree", "add", "--quiet", "--detach", str(folder), revision)
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607 - git of the PATH
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerFailed(f"git {' '.join(arguments)}: {done.stderr.strip()}")
