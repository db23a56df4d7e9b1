"""A PostgreSQL of the tests' own: a new cluster in a temporary directory, on a Unix socket.

It is Debian's, as an unprivileged user where the tests are root's, and without fsync: what it keeps
is gone after the test. Where it is not installed the tests that need it are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastun.fleet import schema
from fastun.fleet.connection import connect
from fastun.lab.host import NAMESPACE_DIR, Host

NOT_HERE = "PostgreSQL is not installed (Debian: postgresql)"
_USER = "nobody"


def programs() -> Path | None:
    """Return where PostgreSQL's programs are, None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


class Cluster:
    """A server that runs, or is stopped for a while."""

    def __init__(
        self, directory: Path, bin_: Path, host: Host | None = None, of: Cluster | None = None
    ) -> None:
        """Start it; `of`: as its standby, which takes over by `promote`."""
        self.directory = directory
        self._bin = bin_
        self.host = host
        self._data = directory / "data"
        self._port: int | None = None
        self._n_databases = 0
        self._prepared: str | None = None
        if of is None:
            self._run("initdb", "-D", self._data, "-A", "trust", "-N", "-U", "fastun", "-E", "UTF8",
                      "--locale=C", "--no-instructions")  # fmt: skip
        else:
            self._run("pg_basebackup", "-D", self._data, "-h", of.directory, "-U", "fastun", "-R",
                      "-c", "fast")  # fmt: skip
        if host is not None:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 0.0.0.0/0 trust\n")
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        other: list[str] = []
        if self.host is not None:
            other += ["nsenter", f"--net={NAMESPACE_DIR / self.host.namespace}"]
        if os.geteuid() == 0:
            other += ["setpriv", "--reuid", _USER, "--regid", "nogroup", "--clear-groups"]
        done = subprocess.run(
            [*other, self._bin / program, *map(str, arguments)],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def start(self, port: int | None = None) -> None:
        """Start it; with a port also on 127.0.0.1."""
        self._port = port
        listen = "" if self.host is None else "*"
        if port is not None:
            listen = f"127.0.0.1 -p {port}"
        options = f"-k {self.directory} -c listen_addresses={listen} -c fsync=off"
        options += " -c max_connections=300"
        log = self.directory / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def promote(self) -> None:
        """Have a standby take changes."""
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def authenticate(self, *lines: str) -> None:
        """Go by these lines of pg_hba.conf, before the ones that let anyone in."""
        file = self._data / "pg_hba.conf"
        rest = file.read_text().partition("# fastun's tests\n")[2] or file.read_text()
        file.write_text("\n".join([*lines, "# fastun's tests\n"]) + rest)
        self._run("pg_ctl", "-D", self._data, "reload")

    def url(self, database: str) -> str:
        port = "" if self._port is None else f"&port={self._port}"
        return f"postgresql://fastun@/{database}?host={self.directory}{port}"

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._n_databases += 1
        name = f"t{self._n_databases}"
        with connect(self.url("postgres")) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def peer_directory(self) -> str:
        """Return the URL of an empty peer directory, in place of the last one of this method."""
        if self._prepared is None:
            self._prepared = self.new_database()
        with connect(self._prepared) as connection:
            connection.execute("DROP SCHEMA IF EXISTS fastun CASCADE")
        schema.prepare(self._prepared)
        return self._prepared


@contextlib.contextmanager
def cluster(host: Host | None = None, of: Cluster | None = None) -> Iterator[Cluster]:
    """A cluster for as long as the context lasts; skips where there is no PostgreSQL.

    With ``host`` it runs there, and is reached by TCP as well. ``of``: as its standby.
    """
    bin_ = programs()
    if bin_ is None:
        pytest.skip(NOT_HERE)
    # Not pytest's directory: that user cannot enter it, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="fastun-pg-", dir="/tmp") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            shutil.chown(directory, _USER)
        directory.chmod(0o755)  # a fastun without capabilities is to reach the socket
        running = Cluster(directory, bin_, host, of)
        try:
            yield running
        finally:
            with contextlib.suppress(AssertionError):  # stopped by the test
                running.stop()
