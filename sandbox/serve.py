"""Sandbox: a web server and two workers that run until Ctrl-C (`make sandbox`)."""

from __future__ import annotations

import socket
import time

from sandbox.stage import Stage, run, stage

HOST = "127.0.0.1"
USER = "admin"
PASSWORD = "admin"  # noqa: S105 - for a server that only this machine can reach


def main() -> None:
    with stage() as ready:
        # These imports need Django.
        from django.contrib.auth.models import User  # noqa: PLC0415

        from airports.importing import dispatch_import  # noqa: PLC0415

        User.objects.create_superuser(USER, password=PASSWORD)
        address = start_web_server(ready)
        print(
            f"Open http://{address}/ and log in as {USER} / {PASSWORD}. Ctrl-C stops it.",
            flush=True,
        )
        batch = dispatch_import()
        print(f"In a second terminal: {ready.command_line('list_batches')}", flush=True)
        ready.follow(batch)
        print(f"The import is finished. http://{address}/ is up until Ctrl-C.", flush=True)
        while True:
            ready.check()
            time.sleep(1)


def start_web_server(ready: Stage) -> str:
    address = f"{HOST}:{free_port()}"
    web = ready.start("web", "runserver", address, "--noreload")
    web.wait_for_log("Quit the server")
    return address


def free_port() -> int:
    """Return port 8000 if it is free, else any free port."""
    for port in (8000, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


if __name__ == "__main__":
    run(main)
