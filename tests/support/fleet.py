"""Gateways of one fleet, each on a host of its own, and a client with a wire to each.

The database is reached by its Unix socket, which network namespaces have in common.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from fastun.fleet import schema
from fastun.lab.host import Host, wait_until
from fastun.lab.network import Lab
from fastun.lab.tunnel import PORT, UDP_PORT, GatewayProcess, start_gateway
from fastun.session import keys
from fastun.status import control
from fastun.status.reply import Status
from tests.support.postgres import Cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

INNER = "10.99.0.1/24"


@dataclasses.dataclass
class FleetScene:
    """Three gateways, or as many as wanted."""

    lab: Lab
    directory: Path
    cluster: Cluster
    url: str
    hosts: list[Host]
    client: Host
    gateways: list[GatewayProcess] = dataclasses.field(default_factory=list)

    def start(self, number: int) -> GatewayProcess:
        """Start the gateway of that number, and return it once it listens."""
        host = self.hosts[number]
        started = start_gateway(
            host, self.directory, "serve", "--config", str(self.directory / f"{host.name}.toml"),
            wire="wireguard", addresses=[INNER],
        )  # fmt: skip
        wait_until(lambda: host.listens(PORT), "the gateway listens", timeout_s=20)
        return started

    def outer(self, number: int) -> str:
        """Return where the client reaches a gateway."""
        return f"10.0.{number + 1}.1"

    def state(self, number: int) -> Path:
        """Return the state directory of a gateway."""
        return self.directory / self.hosts[number].name

    def peer(self, number: int, *arguments: str, stdin: bytes = b"") -> str:
        """Run `fastun peer` on the host of a gateway; return what it printed."""
        done = self.asked(number, "peer", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def asked(
        self, number: int, *arguments: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run fastun with the state directory of a gateway."""
        command = [sys.executable, "-m", "fastun", *arguments, "--state", str(self.state(number))]
        return subprocess.run(command, capture_output=True, input=stdin, check=False, timeout=60)

    def asked_host(self, number: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run fastun with the run directory of a gateway."""
        gateway = self.gateways[number]
        run_dir = ["--run-dir", str(gateway.log_file.parent), "-i", gateway.interface]
        command = [sys.executable, "-m", "fastun", *arguments, *run_dir]
        return subprocess.run(command, capture_output=True, check=False, timeout=60)

    def followers(self, number: int) -> list[int]:
        """Return the processes that follow the directory for a gateway: one, while it runs."""
        parents = {self.gateways[number].process.pid}
        for process in psutil.Process(self.gateways[number].process.pid).children(recursive=True):
            parents.add(process.pid)
        return [
            pid for pid in parents if psutil.Process(pid).cmdline()[0].startswith("fastun: fleet")
        ]

    def status(self, number: int) -> Status:
        """Return what a gateway says of itself."""
        gateway = self.gateways[number]
        path = control.socket_path(gateway.log_file.parent, gateway.interface)
        return control.request(path, "status")

    def known(self, number: int) -> set[str]:
        """Return the peers that a gateway lets connect."""
        return {peer.name for peer in self.status(number).peers}

    def wait_known(self, names: set[str], timeout_s: float = 20) -> None:
        """Wait until every gateway that runs has these peers."""
        for number in range(len(self.gateways)):
            wait_until(
                lambda number=number: self.known(number) == names,  # type: ignore[misc]
                f"the peers of gateway {number}",
                timeout_s=timeout_s,
            )

    def connect(self, name: str, number: int, *more: str, transport: str = "udp") -> Path:
        """Add a peer on a gateway; return the file with which it connects to that one."""
        port = UDP_PORT if transport == "udp" else PORT
        url = f"{transport}://{self.outer(number)}:{port}"
        file = self.directory / f"{name}.toml"
        file.touch(mode=0o600)
        file.write_text(self.peer(number, "add", name, "--endpoint", url, *more))
        return file


def scene(lab: Lab, directory: Path, cluster: Cluster, n_gateways: int, **fleet: Any) -> FleetScene:
    """Return hosts, and a directory with its tables; no gateway runs yet."""
    url = cluster.new_database()
    schema.prepare(url)
    client = lab.host("client")
    hosts = []
    key = keys.format_key(keys.generate_private())
    for number in range(n_gateways):
        host = lab.host(f"gw{number + 1}")
        lab.wire(host, client, [f"10.0.{number + 1}.1/24"], [f"10.0.{number + 1}.2/24"])
        hosts.append(host)
        prepare_gateway(directory, host, url, key, more=_lines_of(fleet))
    return FleetScene(lab, directory, cluster, url, hosts, client)


def _lines_of(fleet: dict[str, Any]) -> list[str]:
    """Return more fields of `[fleet]`."""
    return [f"{name} = {value!r}".replace("'", '"') for name, value in fleet.items()]


def prepare_gateway(
    directory: Path, host: Host, url: str, key: str, *, more: Sequence[str] = ()
) -> None:
    """Write what a gateway of a fleet has before it starts: its key, and its configuration.

    ``more`` are lines behind those of `[fleet]`, of that or further sections.
    """
    state = directory / host.name
    state.mkdir(mode=0o700)
    private = state / "private.key"
    private.touch(mode=0o600)
    private.write_text(key + "\n")
    config = [
        "[listen]", f'udp = ["udp://0.0.0.0:{UDP_PORT}"]', f'tcp = ["tcp://0.0.0.0:{PORT}"]',
        "[fleet]", f'directory = "{url}"', f'name = "{host.name}"', *more,
    ]  # fmt: skip
    (directory / f"{host.name}.toml").write_text("\n".join(config) + "\n")
