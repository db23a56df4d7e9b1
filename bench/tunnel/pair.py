"""The two hosts of one case, and the programs that run on them."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.tunnel.addresses import INNER, OUTER
from bench.tunnel.detour import make_detour
from fastun.lab.host import LabError, stop_processes, wait_until

if TYPE_CHECKING:
    from bench.tunnel.detour import Detour
    from fastun.lab.host import Host
    from fastun.lab.network import Lab

# Programs are ended one case at a time only when the case has failed; all others by the laboratory.
# For each step of a start, on a machine that has other things to do as well.
START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Program:
    """One end of a tunnel that runs, and the file that takes what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def check_alive(self) -> None:
        """Raise LabError with the program's last words if it has ended."""
        code = self.process.poll()
        if code is None:
            return
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing said")
        raise LabError(f"{self.name} ended with code {code}: {last}")


@dataclass(eq=False, slots=True)
class Pair:
    """Two hosts on one wire. Made by `make_pair`; the laboratory removes them."""

    name: str
    server: Host
    client: Host
    #: A directory of this case's own for configurations, keys and logs.
    directory: Path
    #: Another way between the hosts, which can be slow or lossy.
    detour: Detour
    programs: list[Program] = field(default_factory=list)
    #: When the first program was started, by time.monotonic().
    started_s: float | None = None

    @property
    def hosts(self) -> tuple[Host, Host]:
        """Server and client."""
        return self.server, self.client

    def role(self, host: Host) -> str:
        """Return "server" or "client"."""
        return "server" if host is self.server else "client"

    def spawn(self, host: Host, *command: str) -> None:
        """Start one end of the tunnel; what it prints goes to a log file of its own."""
        name = f"{Path(command[0]).name} ({self.role(host)})"
        log_file = self.directory / f"{self.role(host)}.log"
        self.mark_start()
        with log_file.open("ab") as log:
            process = host.spawn(*command, stdout=log, stderr=subprocess.STDOUT)
        self.programs.append(Program(name, process, log_file))

    def mark_start(self) -> None:
        """Start the clock of the start-up time, unless it runs."""
        if self.started_s is None:
            self.started_s = time.monotonic()

    def wait_listening(self, port: int, *, udp: bool) -> None:
        """Wait until the server is bound to `port`.

        A client that comes earlier waits for its next attempt, up to 20 s with some programs.
        """

        def is_bound() -> bool:
            self.check_alive()
            return self.server.listens(port, udp=udp)

        wait_until(is_bound, f"{self.name} listens on port {port}", timeout_s=START_TIMEOUT_S)

    def configure_device(self, host: Host, device: str) -> None:
        """Wait for a program's device, give it this end's inner addresses and set it up."""

        def is_there() -> bool:
            self.check_alive()
            return device in host.devices()

        wait_until(is_there, f"device {device} of {self.name}", timeout_s=START_TIMEOUT_S)
        for address in INNER.server if host is self.server else INNER.client:
            nodad = ("nodad",) if ":" in address else ()
            host.ip("address", "replace", address, "dev", device, *nodad)
        host.ip("link", "set", device, "up")

    def check_alive(self) -> None:
        """Raise LabError if a program has ended."""
        for program in self.programs:
            program.check_alive()

    def program_pids(self) -> list[int]:
        """Return the processes of the tunnel, children included, while nothing else runs here."""
        return [pid for host in self.hosts for pid in host.pids()]

    def end(self) -> None:
        """End the programs, SIGTERM first; the hosts stay until the laboratory removes them."""
        stop_processes(self.hosts)


def make_pair(lab: Lab, name: str, directory: Path) -> Pair:
    """Make the hosts of a case and wire them. Raises LabError."""
    # The role comes first: devices are named after the host on their other end, and cut.
    server, client = lab.host(f"server-{name}"), lab.host(f"client-{name}")
    lab.wire(server, client, OUTER.server, OUTER.client)
    home = directory / name
    home.mkdir()
    return Pair(name, server, client, home, make_detour(lab, name, server, client))
