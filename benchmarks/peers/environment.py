"""Virtual environment of the comparison, in the folder `build`, which git ignores."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.stage import ROOT
from sandbox.servers import ServerFailed

FOLDER: Final = ROOT / "build" / "peers"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
PACKAGES: Final = Path(__file__).with_name("packages.txt")
#: django-ox needs the first of these versions.
MINIMUM: Final = (3, 12)
NAMES: Final = ("python3.13", "python3.12")


class Environment(NamedTuple):
    """Python of the environment, and the reasons why packages are missing there."""

    python: Path
    missing: dict[str, str]


def make() -> Environment:
    """Make the environment, unless it exists with the same versions."""
    python, record = FOLDER / "bin" / "python", FOLDER / "missing.json"
    base = find_python()
    contents = f"{base} {REQUIREMENTS.read_text()} {PACKAGES.read_text()}"
    versions = hashlib.sha256(contents.encode()).hexdigest()
    if record.exists():
        stored = json.loads(record.read_text())
        if stored["versions"] == versions:
            return Environment(python, stored["missing"])
    _report(f"Making {FOLDER} with {base}")
    subprocess.run([base, "-m", "venv", "--clear", str(FOLDER)], check=True)
    if error := _install(python, "--requirement", str(REQUIREMENTS)):
        raise ServerFailed(f"{REQUIREMENTS} was not installed: {error}")
    missing = {}
    for package in _packages():
        if error := _install(python, package):
            missing[re.split(r"[\[=]", package)[0]] = error
            _report(f"{package} was not installed: {error}")
    record.write_text(json.dumps({"versions": versions, "missing": missing}))
    return Environment(python, missing)


def find_python() -> str:
    """Return a Python that all packages support; without one, the Python of this process."""
    if sys.version_info >= MINIMUM:
        return sys.executable
    return next((path for path in _candidates() if _starts(path)), sys.executable)


def _candidates() -> Iterator[str]:
    for name in NAMES:
        if path := shutil.which(name):
            yield path
    # The shims of pyenv work only for the version that is chosen there.
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for name in NAMES:
        yield from map(str, sorted(versions.glob(f"*/bin/{name}"), reverse=True))


def _starts(path: str) -> bool:
    return (
        subprocess.run([path, "-c", "import venv"], check=False, capture_output=True).returncode
        == 0
    )


def _packages() -> Iterator[str]:
    for line in PACKAGES.read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


def _install(python: Path, *arguments: str) -> str:
    """Install these requirements; return the error of pip, or an empty text."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    if not done.returncode:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR:").strip() if errors else done.stderr.strip()


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
