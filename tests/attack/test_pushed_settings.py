"""What a server pushes never beats what the client has: a hostile server, and a client with a LAN.

printer 192.168.77.9 ==veth== lan 192.168.77.2 client 10.1.0.2 ==veth== 10.1.0.1 server
                                               ft0 10.99.0.2 ..tunnel.. ft0 10.99.0.1
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, INTERFACE, SERVER_ADDRESSES, add_peer, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport

SERVER, SERVER_V6, PRINTER, PRINTER_V6 = "10.1.0.1", "fd01::1", "192.168.77.9", "fd77::9"
INNER = "10.99.0.1"
EVERYTHING = '"0.0.0.0/0", "::/0"'
# Routes that make a default route, in pieces or not, need the last of these words.
DEFAULT_AS_WELL = 'accept = ["addresses", "routes", "mtu", "keepalive", "default"]'


class Scene:
    """A server that pushes what it likes, and a client beside a LAN."""

    def __init__(self, lab: Lab, directory: Path, transport: Transport) -> None:
        self.server, self.client, self.printer = map(lab.host, ("server", "client", "printer"))
        lab.wire(
            self.server,
            self.client,
            [f"{SERVER}/24", f"{SERVER_V6}/64"],
            ["10.1.0.2/24", "fd01::2/64"],
        )
        lab.wire(
            self.client,
            self.printer,
            ["192.168.77.2/24", "fd77::2/64"],
            [f"{PRINTER}/24", f"{PRINTER_V6}/64"],
        )
        self.directory = directory
        self.transport = transport

    def serve(self, *routes: str, more: str = "") -> GatewayProcess:
        """Start the server, which pushes these; `more` goes into its file."""
        config = self.directory / "push.toml"
        config.write_text(f"[push]\nroutes = {list(routes)}\n{more}".replace("'", '"'))
        serving = start_gateway(
            self.server,
            self.directory,
            "serve",
            "-c",
            str(config),
            wire="wireguard",
            addresses=SERVER_ADDRESSES,
        )
        wait_until(lambda: self.server.listens(55555), "the server listens", timeout_s=15)
        return serving

    def connect(
        self, serving: GatewayProcess, allowed: str, outer: str = SERVER, *, more: str = ""
    ) -> GatewayProcess:
        """Start a client that lets the server send from `allowed`, its address pushed.

        `more` goes into the `[interface]` of its file.
        """
        file = add_peer(serving, "client", outer, self.transport)
        text = re.sub("(?m)^address.*\n", f"{more}\n", file.read_text(), count=1)
        file.write_text(re.sub("(?m)^allowed_ips.*$", f"allowed_ips = [{allowed}]", text))
        client = start_gateway(self.client, self.directory, "connect", str(file), wire="wireguard")
        self.wait_up(client)
        return client

    def wait_up(self, client: GatewayProcess) -> None:
        def answers() -> bool:
            client.check_alive()
            is_there = INTERFACE in self.client.devices()
            ping = ("ping", "-n", "-q", "-c1", "-W1", "-I", INTERFACE, INNER)
            return is_there and self.client.run(*ping, check=False).returncode == 0

        wait_until(answers, "the tunnel", timeout_s=20)

    def way(self, *to: str) -> str:
        """The device that a packet of the client's would leave by."""
        words = self.client.ip("route", "get", *to).split()
        return words[words.index("dev") + 1]

    def routes(self) -> set[str]:
        """What the tunnel has made of routes, in whichever table."""
        found = ""
        for family in ("-4", "-6"):
            arguments = ("route", "show", "table", "all", "dev", INTERFACE, "proto", "157")
            found += self.client.ip(family, *arguments)
        return {line.split()[0] for line in found.splitlines()}

    def addresses(self) -> str:
        return self.client.ip("address", "show", "dev", INTERFACE)


BOTH = pytest.mark.parametrize("transport", ["udp", "tcp"])


@pytest.fixture
def transport() -> Transport:
    return "tcp"


@pytest.fixture
def scene(lab: Lab, tmp_path: Path, transport: Transport) -> Scene:
    return Scene(lab, tmp_path, transport)


def warnings(client: GatewayProcess) -> list[str]:
    return [line for line in client.log_tail(100) if "warning" in line and "pushed" in line]


HOSTILE = ("192.168.77.0/25", "192.168.77.0/24", "192.168.77.9/32", "fd77::/80", "fd77::9/128")
COVERING = ("192.168.0.0/16", "172.16.9.0/24", "fd76::/15")


@pytest.mark.parametrize("transport", ["udp"])
def test_a_lan_stays_with_the_client_and_what_covers_it_is_routed(scene: Scene) -> None:
    lan = scene.client.ip("-json", "route", "show", "192.168.77.0/24")
    assert "metric" not in lan
    # A metric, as network managers give, makes the kernel take a second route to the same.
    scene.client.ip("route", "del", "192.168.77.0/24")
    scene.client.ip("route", "add", "192.168.77.0/24", "dev", "to-printer", "metric", "600")
    client = scene.connect(scene.serve(*HOSTILE, *COVERING), EVERYTHING)
    wait_until(lambda: set(COVERING) <= scene.routes(), "routes that cover the LAN's")
    assert scene.routes() & set(HOSTILE) == set()
    for address in (PRINTER, PRINTER_V6):
        assert scene.way(address) == "to-printer"
        assert answers_ping(scene.client, address)
    assert scene.way("192.168.78.1") == scene.way("172.16.9.1") == INTERFACE
    for route in HOSTILE:
        (line,) = (line for line in warnings(client) if f"route={route} " in line)
        assert "to-printer" in line
    assert len(warnings(client)) == len(HOSTILE)
    print(f"{len(HOSTILE)} hostile routes: 0 made, 1 warning each; {len(COVERING)} others made")  # noqa: T201


def test_what_the_clients_own_file_names_exactly_is_routed(scene: Scene) -> None:
    scene.connect(
        scene.serve("192.168.77.0/25", "192.168.77.128/26"),
        '"10.99.0.0/24", "fd99::/64", "192.168.77.0/25", "192.168.77.128/25"',
    )
    wait_until(lambda: "192.168.77.0/25" in scene.routes(), "the route that is named")
    assert scene.routes() == {"192.168.77.0/25"}


@pytest.mark.parametrize(
    ("transport", "outer", "covering", "elsewhere"),
    [
        ("udp", "10.2.0.1", ("10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"), "203.0.113.1"),
        ("tcp", "fd02::1", ("fd02::/16", "::/1", "8000::/1"), "2001:db8::1"),
    ],
)
def test_a_network_with_the_servers_own_address_loops_nothing(
    scene: Scene, outer: str, covering: tuple[str, ...], elsewhere: str
) -> None:
    # Only the default routes have the way to the server: no network of the client's does.
    scene.client.ip("route", "add", "default", "via", SERVER)
    scene.client.ip("-6", "route", "add", "default", "via", SERVER_V6)
    scene.server.ip("address", "add", outer, "dev", "lo")
    client = scene.connect(scene.serve(*covering), EVERYTHING, outer=outer, more=DEFAULT_AS_WELL)
    wait_until(lambda: set(covering) <= scene.routes(), "the routes")
    assert scene.way(outer, "mark", "51820") == "to-server"
    assert scene.way(outer) == scene.way(elsewhere) == INTERFACE
    for family in ("-4", "-6"):
        main = scene.client.ip(family, "route", "show", "dev", INTERFACE, "proto", "157")
        assert main == "", "they stand apart from the main table"
    before = client.scrape().total("fastun_device_transmit_packets_total")
    n_pings = sum(answers_ping(scene.client, INNER) for _ in range(10))
    sent = client.scrape().total("fastun_device_transmit_packets_total") - before
    assert n_pings == 10
    assert sent <= 2 * 10, "packets of ours went round"
    assert client.stop() == 0
    assert "51820" not in scene.client.ip("rule") + scene.client.ip("-6", "rule")
    print(f"10 of 10 pings, {sent:.0f} packets through the device")  # noqa: T201


@pytest.mark.parametrize(
    "transport",
    ["tcp", pytest.param("udp", marks=pytest.mark.soak)],  # 20 s until it is noticed
)
def test_a_push_replaces_the_last_as_a_whole_and_leaves_what_others_made(
    scene: Scene,
) -> None:
    serving = scene.serve("172.16.0.0/24", "172.16.1.0/24", "10.0.0.0/8", "0.0.0.0/0", "fd76::/32")
    client = scene.connect(serving, EVERYTHING, more=DEFAULT_AS_WELL)
    wait_until(lambda: len(scene.routes()) == 5, "the routes")
    scene.client.ip("route", "add", "172.20.0.0/24", "dev", INTERFACE)
    scene.client.ip("route", "replace", "172.16.1.0/24", "dev", INTERFACE, "proto", "static")
    scene.client.ip("address", "add", "10.77.0.1/24", "dev", INTERFACE)
    assert serving.stop() == 0
    serving = scene.serve("172.16.2.0/24", more="\n[interface]\nmtu = 1300\n")
    # On UDP the client learns it with the next session, which a restarted server needs at once.
    wait_until(lambda: scene.routes() == {"172.16.2.0/24"}, "the next push", timeout_s=40)
    kept = scene.client.ip("route", "show", "dev", INTERFACE)
    assert "172.20.0.0/24" in kept
    assert "172.16.1.0/24" in kept, "not ours any more"
    assert "fwmark" not in scene.client.ip("rule")
    assert "10.77.0.1" in scene.addresses()
    assert "10.99.0.2" in scene.addresses()
    assert "mtu 1300" in scene.client.ip("link", "show", INTERFACE)
    assert client.stop(signal.SIGTERM) == 0
    print("5 routes replaced by 1")  # noqa: T201


def test_250_routes_are_refused_where_they_are_configured(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("server")
    config = tmp_path / "push.toml"
    routes = [f"10.{i // 50}.{i % 50}.0/24" for i in range(250)]
    config.write_text(f"[push]\nroutes = {routes}\n")
    arguments = ("-c", str(config), "--state", str(tmp_path), "--run-dir", str(tmp_path))
    done = host.run(*FASTUN, "serve", *arguments, check=False, timeout_s=20)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "push.routes: 250 routes do not fit" in line
    print(line)  # noqa: T201


@BOTH
def test_as_many_routes_as_a_server_may_configure_reach_a_client(scene: Scene) -> None:
    n = 45 if scene.transport == "udp" else 200
    routes = [f"172.{16 + i // 200}.{i % 200}.0/24" for i in range(n)]
    config = scene.directory / "push.toml"
    config.write_text(f"[push]\nroutes = {routes}\n".replace("'", '"'))
    listen = "udp://0.0.0.0:51820" if scene.transport == "udp" else "tcp://0.0.0.0:55555"
    serving = start_gateway(
        scene.server, scene.directory, "serve", "-c", str(config), "--listen", listen,
        wire="wireguard", addresses=SERVER_ADDRESSES,
    )  # fmt: skip
    scene.connect(serving, EVERYTHING)
    wait_until(lambda: len(scene.routes()) == n, f"{n} routes", timeout_s=15)
    print(f"{n} routes over {scene.transport}")  # noqa: T201
