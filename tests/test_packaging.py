"""The wheel holds the package with all its files, and nothing else; the sdist holds no tests."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from tarfile import TarFile
from tarfile import open as open_tar
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

    assert needed == ["django>=5.2", "django-rq>=4.1", "redis>=5.0.1", "rq<4,>=2.6.1"]


def test_the_wheel_says_what_it_is(metadata: Message) -> None:
    stated = {name: metadata[name] for name in ("Name", "License-Expression", "Requires-Python")}

    assert stated == {
        "Name": "django-jobbatch",
        "License-Expression": "BSD-3-Clause",
        "Requires-Python": ">=3.11",
    }


# The source distribution


@pytest.fixture(scope="module")
def sdist(wheel_path: Path) -> Iterator[TarFile]:
    """The sdist that the wheel was built from."""
    (path,) = wheel_path.parent.glob("*.tar.gz")
    with open_tar(path) as sdist:
        yield sdist


def test_the_sdist_holds_the_package_and_no_tests(sdist: TarFile) -> None:
    """Tests without their servers, jobs and settings could not run."""
    paths = [name.partition("/")[2] for name in sdist.getnames()]
    folders = {path.partition("/")[0] for path in paths if "/" in path}

    assert folders == {"django_jobbatch", "django_jobbatch.egg-info"}
    assert [path for path in paths if "test" in path] == []


def test_the_sdist_holds_what_a_reader_needs(sdist: TarFile) -> None:
    paths = {name.partition("/")[2] for name in sdist.getnames()}

    assert paths >= {"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "pyproject.toml"}
