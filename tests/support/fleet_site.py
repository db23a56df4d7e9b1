"""A fleet of gateways in front of a server: clients far away, two routers, a database.

    client1 ===== |      | ===== gw1 ===== |      |
    client2 ===== | edge | ===== gw2 ===== | core | ===== server 172.16.9.2
    ...           |      | ===== gw3 ===== |      | ===== db 192.0.2.5
     203.0.113.x     .1 198.51.100.11, .12 . 192.0.2.11, .12 .1

`edge` and `core` are routers, and the switches of their sides, so that gateways see each other on
both; of a gateway, eth0 is outside and eth1 inside. The edge knows nothing of what is in the
tunnels. The core learns from the gateways where a peer is.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil

from fastun.fleet import schema
from fastun.lab.host import LabError, wait_until
from fastun.lab.tunnel import FASTUN, PORT, UDP_PORT, GatewayProcess, start_gateway
from fastun.session import keys
from tests.support.fleet import FleetScene, prepare_gateway

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.support.postgres import Cluster
    from tests.support.routing_recipes import Recipe

INNER: Final = "10.9.0.1/24"
BEHIND: Final = "172.16.9.0/24"
SERVER: Final = "172.16.9.2"
DATABASE: Final = "192.0.2.5"
N_GATEWAYS: Final = 3


@dataclasses.dataclass
class Hosts:
    """All of them, wired; nothing runs yet."""

    edge: Host
    core: Host
    gateways: list[Host]
    clients: list[Host]
    server: Host
    db: Host

    @property
    def all(self) -> dict[str, Host]:
        """All by their names."""
        single = (self.edge, self.core, self.server, self.db)
        return {host.name: host for host in (*single, *self.gateways, *self.clients)}


def outside(number: int) -> str:
    """Return where clients reach a gateway."""
    return f"198.51.100.{11 + number}"


def inside(number: int) -> str:
    """Return where the core reaches a gateway."""
    return f"192.0.2.{11 + number}"


def wired(lab: Lab, clients: Sequence[str]) -> Hosts:
    """Make the hosts, with their addresses and the routes that do not change."""
    edge, core, server, db = map(lab.host, ("edge", "core", "server", "db"))
    for router, address in ((edge, "198.51.100.1/24"), (core, "192.0.2.1/24")):
        router.ip("link", "add", "lan", "type", "bridge")
        router.ip("address", "add", address, "dev", "lan")
        router.ip("link", "set", "lan", "up")
        router.sysctl("net.ipv4.ip_forward", 1)
    gateways = [lab.host(f"gw{number + 1}") for number in range(N_GATEWAYS)]
    for number, gateway in enumerate(gateways):
        for name, router, own in (("eth0", edge, outside(number)), ("eth1", core, inside(number))):
            cable = lab.wire(gateway, router)
            router.ip("link", "set", cable.b_device, "master", "lan")
            gateway.ip("link", "set", cable.a_device, "down")
            gateway.ip("link", "set", cable.a_device, "name", name)
            gateway.ip("address", "add", f"{own}/24", "dev", name)
        join(gateway)
    cable = lab.wire(db, core, [f"{DATABASE}/24"])
    core.ip("link", "set", cable.b_device, "master", "lan")
    lab.wire(server, core, [f"{SERVER}/24"], ["172.16.9.1/24"])
    server.ip("route", "add", "default", "via", "172.16.9.1")
    away = [lab.host(name) for name in clients]
    for number, client in enumerate(away):
        first = f"203.0.113.{number * 8 + 1}"
        lab.wire(client, edge, [f"203.0.113.{number * 8 + 2}/29"], [f"{first}/29"])
        client.ip("route", "add", "198.51.100.0/24", "via", first)
    return Hosts(edge, core, gateways, away, server, db)


def join(gateway: Host) -> None:
    """Plug a gateway's host in."""
    for name in ("eth0", "eth1"):
        gateway.ip("link", "set", name, "up")
    gateway.ip("route", "add", "203.0.113.0/24", "via", "198.51.100.1")
    gateway.ip("route", "add", BEHIND, "via", "192.0.2.1")


@dataclasses.dataclass
class Site(FleetScene):
    """The gateways and clients of it, running. Made by `site`."""

    #: Where the test itself finds the directory; its gateways do by `url`.
    near_url: str = dataclasses.field(kw_only=True)
    site: Hosts = dataclasses.field(kw_only=True)
    recipe: Recipe = dataclasses.field(kw_only=True)
    clients: list[GatewayProcess] = dataclasses.field(default_factory=list)

    def outer(self, number: int) -> str:
        """Return where clients reach a gateway."""
        return outside(number)

    def start(self, number: int) -> GatewayProcess:
        """Start the gateway of that number, and return it once it listens."""
        host = self.hosts[number]
        config = self.directory / f"{host.name}.toml"
        started = start_gateway(
            host, self.directory, "serve", "--config", str(config),
            wire="wireguard", addresses=[INNER],
        )  # fmt: skip
        wait_until(lambda: host.listens(PORT), "the gateway listens", timeout_s=20)
        return started

    def asked(
        self, number: int, *arguments: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run fastun on a gateway's host."""
        command = [*FASTUN, *arguments, "--state", str(self.state(number))]
        inside = ("ip", "netns", "exec", self.hosts[number].namespace)
        return subprocess.run(
            [*inside, *command], capture_output=True, input=stdin, check=False, timeout=60
        )

    def file(self, name: str, first: int, transport: str = "udp") -> Path:
        """Add a peer; return its file, which has an endpoint of each gateway, ``first`` first."""
        port = UDP_PORT if transport == "udp" else PORT
        order = [(first + n) % N_GATEWAYS for n in range(N_GATEWAYS)]
        urls = [f"{transport}://{outside(n)}:{port}" for n in order]
        named = [word for url in urls for word in ("--endpoint", url)]
        file = self.directory / f"{name}.toml"
        file.touch(mode=0o600)
        file.write_text(self.peer(first, "add", name, *named))
        return file

    def add_client(self, number: int, transport: str, first: int) -> GatewayProcess:
        """Add the peer of a client's host, and start it."""
        host = self.site.clients[number]
        file = self.file(host.name, first, transport)
        started = start_gateway(host, self.directory, "connect", str(file), wire="wireguard")
        self.clients.append(started)
        return started

    def address(self, number: int) -> str:
        """Return the address inside the tunnel of the client that was added as that number."""
        return f"10.9.0.{number + 2}"

    def having(self, address: str) -> list[int]:
        """Return the gateways that route an address to a peer of their own."""
        return [n for n in range(N_GATEWAYS) if address in self.routes(n)]

    def routes(self, number: int) -> set[str]:
        """Return what a gateway routes to its device for peers."""
        shown = self.hosts[number].ip("-4", "route", "show", "proto", "157")
        return {line.split()[0] for line in shown.splitlines() if "metric 10" in line}

    def known_at_core(self) -> dict[str, str]:
        """Return the next hop that the core has for each address, as its kernel has it."""
        shown = self.site.core.ip("-4", "route", "show", "proto", self.recipe.protocol)
        words = [line.split() for line in shown.splitlines()]
        return {each[0]: each[each.index("via") + 1] for each in words if "via" in each}

    def wait_right(self, alive: Sequence[int], timeout_s: float = 30) -> None:
        """Wait until the core sends what is for each client to the gateway that has it."""
        try:
            wait_until(lambda: not self.wrong(alive), "right routes", timeout_s=timeout_s)
        except LabError as error:
            raise LabError(f"{error}: {'; '.join(self.wrong(alive))}") from None

    def wrong(self, alive: Sequence[int]) -> list[str]:
        """Say of which clients the core does not know the gateway that has it."""
        known = self.known_at_core()
        having = {n: self.routes(n) for n in alive}
        found = []
        for number, client in enumerate(self.clients):
            address = self.address(number)
            there = [inside(n) for n in alive if address in having[n]]
            if there != [known.get(address)]:
                found.append(f"{client.host.name} is at {there}, the core has {known.get(address)}")
        return found

    def roam(self, number: int) -> None:
        """Give a client's host another address in place of its own."""
        host, first = self.site.clients[number], f"203.0.113.{number * 8 + 1}"
        host.ip("address", "del", f"203.0.113.{number * 8 + 2}/29", "dev", "to-edge")
        host.ip("address", "add", f"203.0.113.{number * 8 + 3}/29", "dev", "to-edge")
        host.ip("route", "add", "198.51.100.0/24", "via", first)

    def log(self, number: int) -> list[str]:
        """Return the lines of a gateway's log."""
        return self.gateways[number].log_file.read_text().splitlines()

    def fault(self, number: int) -> str:
        """Return why a gateway does not follow the directory; empty where it does."""
        fleet = self.status(number).fleet
        assert fleet is not None
        return fleet.fault

    def end(self, number: int, *, is_cut: bool) -> None:
        """Kill a gateway's process; with ``is_cut`` all of its host, which is unplugged first."""
        host, gateway = self.hosts[number], self.gateways[number]
        if is_cut:
            for name in ("eth0", "eth1"):
                host.ip("link", "set", name, "down")
            self.recipe.stop(host, signal.SIGKILL)
        gateway.asked_to_stop = True
        gateway.process.kill()

    def restore(self, number: int, *, was_cut: bool) -> None:
        """Start what was killed or cut, and wait until it serves."""
        gateway = self.gateways[number]
        gateway.process.wait(10)
        host = self.hosts[number]
        wait_until(lambda: not _of_fastun(host), "all its processes are gone", timeout_s=20)
        if was_cut:
            join(host)
            self.recipe.start(host, number)
        self.gateways[number] = self.start(number)
        names = {client.host.name for client in self.clients}
        wait_until(lambda: self.known(number) >= names, "it knows the peers", timeout_s=20)
        # Where the others' clients are, it has from the core, which takes its own from then on.
        wait_until(lambda: "via" in host.ip("route", "show", "proto", self.recipe.protocol),
                   "its routing daemon is back", timeout_s=30)  # fmt: skip


def _of_fastun(host: Host) -> bool:
    names = []
    for pid in host.pids():
        try:
            names.append(" ".join(psutil.Process(pid).cmdline()))
        except psutil.Error:
            continue
    return any(name.startswith("fastun: ") or "-m fastun" in name for name in names)


def site(lab: Lab, hosts: Hosts, directory: Path, cluster: Cluster, recipe: Recipe) -> Site:
    """Return a site whose gateways and routers run; no client was added yet.

    The gateways find the database by TCP where it runs on a host of the site.
    """
    near_url = cluster.new_database()
    schema.prepare(near_url)
    url = near_url
    if cluster.host is hosts.db:
        url = f"postgresql://fastun@{DATABASE}{urlsplit(near_url).path}"
    made = Site(lab, directory, cluster, url, hosts.gateways, hosts.clients[0],
                near_url=near_url, site=hosts, recipe=recipe)  # fmt: skip
    key = keys.format_key(keys.generate_private())
    forward = ("[forward]", f'to = ["{BEHIND}"]')
    recipe.start_core(hosts.core)
    for number, host in enumerate(hosts.gateways):
        prepare_gateway(directory, host, url, key, more=forward)
        recipe.start(host, number)
    made.gateways.extend(made.start(number) for number in range(N_GATEWAYS))
    return made
