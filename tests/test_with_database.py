"""A command on a database server of its own: what it finds there, and what is left afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from django.db import connection

from tests.settings import ROOT

pytestmark = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has no server to be started"
)

SERVER = {"postgresql": "postgres", "mysql": "mariadb"}.get(connection.vendor, "")
#: Says where the database is, as Django and its driver see it, and waits for a line.
COMMAND = """
import sys, environ
from django.conf import settings
settings.configure(DATABASES={"default": environ.Env().db("DATABASE_URL")})
from django.db import connection
connection.ensure_connection()
options = connection.settings_dict["OPTIONS"]
print(options.get("host") or options["unix_socket"].rpartition("/")[0], flush=True)
sys.exit(int(sys.stdin.readline()))
"""


@pytest.fixture
def process() -> subprocess.Popen[str]:
    """A command that has reached its server."""
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "sandbox" / "with_database.py"),
            SERVER,
            "--",
            *(sys.executable, "-c", COMMAND),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def data_of(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def is_served(data: Path) -> bool:
    """Whether a process was started on this folder and still runs."""
    lines = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return any(str(data) in argument for line in lines for argument in line)


def test_the_exit_code_is_passed_on_and_nothing_is_left(process: subprocess.Popen[str]) -> None:
    data = data_of(process)
    was_served = is_served(data)

    process.communicate("7\n")

    assert process.returncode == 7
    assert (was_served, is_served(data), data.parent.exists()) == (True, False, False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_then_the_server(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    data = data_of(process)

    process.send_signal(number)
    process.communicate()

    assert process.returncode == 128 + number
    assert (is_served(data), data.parent.exists()) == (False, False)
