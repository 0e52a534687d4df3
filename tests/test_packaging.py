"""The wheel holds the package with all its files, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.settings import ROOT

PACKAGE = ROOT / "django_jobbatch"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--no-isolation", "--quiet"),
            *("--outdir", str(folder), str(source_copy(folder / "source"))),
        ],
        check=True,
    )
    (path,) = folder.glob("*.whl")
    with ZipFile(path) as wheel:
        yield wheel


def source_copy(folder: Path) -> Path:
    """What a build reads, apart, so that it neither meets nor leaves anything in the checkout."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "sandbox"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "setup.cfg",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(path).decode())


def test_the_wheel_holds_every_file_of_the_package(wheel: ZipFile) -> None:
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == files
    assert "django_jobbatch/py.typed" in held


def test_the_wheel_needs_four_packages(metadata: Message) -> None:
    needed = metadata.get_all("Requires-Dist")

    assert needed == ["django>=5.2", "django-rq>=4.1", "redis>=5.0.1", "rq>=2.6.1"]


def test_the_wheel_says_what_it_is(metadata: Message) -> None:
    said = {name: metadata[name] for name in ("Name", "License-Expression", "Requires-Python")}

    assert said == {
        "Name": "django-jobbatch",
        "License-Expression": "BSD-3-Clause",
        "Requires-Python": ">=3.11",
    }
