"""Run a command with its own database server: `with_database.py postgres -- pytest`.

DATABASE_URL is the address of the server. The exit code is that of the command. The server is
stopped and its data deleted afterwards, even if the command fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

from sandbox.databases import SERVERS
from sandbox.servers import ServerFailed

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command:
    """Command that receives the signals of this process, which waits for it and cleans up."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        for number in STOPS:
            signal.signal(number, self._arrived)

    def run(self, arguments: list[str], env: dict[str, str]) -> int:
        """Run the command and return its exit code in the form of a shell."""
        with subprocess.Popen(arguments, env=env) as self._process:
            code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            sys.exit(128 + number)
        # A terminal sends Ctrl-C to the command too.
        if number != signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=sorted(SERVERS))
    parser.add_argument(
        "--options", default="", help="further options of the address, such as a=1&b=2"
    )
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args()
    command = Command()
    with tempfile.TemporaryDirectory(prefix="jobbatch-", ignore_cleanup_errors=True) as folder:
        server = SERVERS[chosen.server](Path(folder), durable=False)
        try:
            server.start()
            url = f"{server.url}&{chosen.options}".rstrip("&")
            return command.run(chosen.command, {**os.environ, "DATABASE_URL": url})
        finally:
            server.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerFailed as failure:
        sys.exit(f"failed: {failure}")
