"""The wheel of this checkout, built apart from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.settings import ROOT

PACKAGE = ROOT / "django_jobbatch"


def build_wheel(folder: Path) -> Path:
    """Build the wheel in this folder, without a network."""
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--no-isolation", "--quiet"),
            *("--outdir", str(folder), str(_source_copy(folder / "source"))),
        ],
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def _source_copy(folder: Path) -> Path:
    """A copy of the files that a build reads, so that a build leaves nothing in the checkout."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "sandbox", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "setup.cfg",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, folder / name)
    return folder
