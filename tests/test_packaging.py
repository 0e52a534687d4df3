"""The wheel holds the package with all its files, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.settings import ROOT
from tests.wheels import PACKAGE


@pytest.fixture(scope="module")
def wheel(wheel_path: Path) -> Iterator[ZipFile]:
    with ZipFile(wheel_path) as wheel:
        yield wheel


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
    stated = {name: metadata[name] for name in ("Name", "License-Expression", "Requires-Python")}

    assert stated == {
        "Name": "django-jobbatch",
        "License-Expression": "BSD-3-Clause",
        "Requires-Python": ">=3.11",
    }
