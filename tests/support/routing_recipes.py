"""The recipes of docs/fleet.md for routing daemons, run as they are on the page.

A block says which file it is, and on which host: `text /etc/bird/bird.conf on gw1`. The other
gateways have the same with their own address, as the page says.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from fastun.lab.host import Host

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"
_BLOCK: Final = re.compile(r"^```text (\S+) on (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIRST: Final = "192.0.2.11"  # the gateway of the page


def block(name: str, host: str) -> str:
    """Return the text of a file of the page."""
    (found,) = (text for *where, text in _BLOCK.findall(PAGE.read_text()) if where == [name, host])
    return str(found)


def program(name: str, package: str) -> str:
    """Return where a program is; skips the test where it is not installed."""
    path = "/usr/sbin:/usr/bin:/usr/lib/frr"
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"needs {name} (Debian package {package})")
    return found


class Recipe(ABC):
    """One of them. What it starts ends with the laboratory, or by `stop`."""

    protocol: str  # as `ip route` calls that of its routes
    #: What starts on a host: a name, and the command.

    def __init__(self) -> None:
        """Start nothing yet."""
        self.directory = Path(tempfile.mkdtemp(prefix="fastun-recipe-", dir="/tmp"))
        self.directory.chmod(0o777)
        self._running: dict[str, list[subprocess.Popen[bytes]]] = {}

    def start(self, gateway: Host, number: int) -> None:
        """Start it on a gateway."""
        self.run(gateway, "gw1", f"192.0.2.{11 + number}")

    def start_core(self, core: Host) -> None:
        """Start it on the router."""
        self.run(core, "core", _FIRST)

    @abstractmethod
    def run(self, host: Host, of: str, own: str) -> None:
        """Start it on a host with the files that the page has for ``of``."""

    def spawn(self, host: Host, *command: str) -> None:
        """Start one program of it."""
        log = (self.directory / f"{host.name}.log").open("ab")
        with log:
            process = host.spawn(*command, stdout=log, stderr=log)
        self._running.setdefault(host.name, []).append(process)

    def file(self, host: Host, name: str, text: str) -> Path:
        """Write a file of a host's."""
        path = self.directory / f"{host.name}-{name}"
        path.write_text(text)
        path.chmod(0o644)
        return path

    def stop(self, host: Host, number: signal.Signals = signal.SIGTERM) -> None:
        """End it on a host."""
        for process in self._running.pop(host.name, []):
            process.send_signal(number)
            process.wait(10)

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory, ignore_errors=True)


class Bird(Recipe):
    """BIRD on gateways and router."""

    protocol = "bird"

    def run(self, host: Host, of: str, own: str) -> None:
        """Start BIRD."""
        bird = program("bird", "bird2")
        text = block("/etc/bird/bird.conf", of).replace(_FIRST, own)
        control = str(self.directory / f"{host.name}.ctl")
        file = self.file(host, "bird.conf", text)
        self.spawn(host, bird, "-f", "-c", str(file), "-s", control)


class Frr(Recipe):
    """FRR on gateways and router."""

    protocol = "bgp"

    def run(self, host: Host, of: str, own: str) -> None:
        """Start zebra, bfdd and bgpd, as Debian's script does for what `daemons` names."""
        text = block("/etc/frr/frr.conf", of).replace(_FIRST, own)
        home = self.directory / host.name
        home.mkdir(exist_ok=True)
        with contextlib.suppress(LookupError):
            shutil.chown(home, "frr", "frr")
        for daemon in ("zebra", "bfdd", "bgpd"):
            file = self.file(host, f"{daemon}.conf", text)
            extra = {"bfdd": ("--bfdctl", str(home / "bfdd.sock"))}.get(daemon, ())
            self.spawn(
                host, program(daemon, "frr"), "-f", str(file), "-i", str(home / f"{daemon}.pid"),
                "-z", str(home / "zserv.api"), "--vty_socket", str(home), "-A", "127.0.0.1",
                "--log", "stdout", *extra,
            )  # fmt: skip
            if daemon == "zebra":  # the others look for it again after ten seconds only
                wait_until((home / "zserv.api").exists, "zebra", timeout_s=20)


class Static(Recipe):
    """No routing daemon: the core has a route to one address that gateways share."""

    protocol = "static"

    def run(self, host: Host, of: str, own: str) -> None:
        """Start nothing."""
