"""A tunnel's DNS with a real systemd-resolved: split, whole, checked by look-ups, and undone.

server  192.0.2.1 ==== 192.0.2.2  client     DNS of the LAN at 192.0.2.1
        10.99.0.1 .... 10.99.0.2             DNS of the tunnel at 10.99.0.1
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, add_peer, start_gateway
from tests.support import resolved_host
from tests.support.name_server import NameServer
from tests.support.resolved_host import ResolvedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.network import Lab

LAN, TUNNEL = "192.0.2.1", "10.99.0.1"
IN_LAN, IN_TUNNEL = "203.0.113.1", "203.0.113.2"
HOSTS = ("files.corp.example", "www.example.org")
METRICS = "127.0.0.1:10055"
READY = f"import urllib.request as r; print(r.urlopen('http://{METRICS}/readyz').read().decode())"
ACCEPT = "name = 'ft0'\naccept = ['addresses', 'routes', 'dns', 'default']\n"


class Scene:
    """A client whose names systemd-resolved looks up, and the DNS servers that it may ask."""

    def __init__(self, host: ResolvedHost, home: Path, lan: NameServer, tunnel: NameServer) -> None:
        self.host = host
        self.home = home
        self.lan = lan
        self.tunnel = tunnel
        self.before = self.resolver()

    def connect(self) -> subprocess.Popen[bytes]:
        arguments = (str(self.home / "client.toml"), "--state", str(self.home))
        with (self.home / "client.log").open("ab") as log:
            return subprocess.Popen(
                self.host.inside(
                    *(*FASTUN, "connect", *arguments, "--run-dir", str(self.home)),
                    *("--metrics", METRICS),
                ),
                stderr=log,
            )

    def log(self) -> str:
        return (self.home / "client.log").read_text()

    def looked_up(self, name: str) -> str:
        """Return the address that a program gets for a name."""
        return self.host.run("getent", "ahostsv4", name, check=False).partition(" ")[0]

    def resolver(self) -> list[str]:
        """Return what systemd-resolved has of each interface, and the file of all programs."""
        return [
            self.host.run("cat", "/etc/resolv.conf"),
            self.host.run("resolvectl", "dns"),
            self.host.run("resolvectl", "domain"),
        ]

    def dns(self) -> dict[str, object]:
        status = json.loads(self.host.run(*FASTUN, "status", "--run-dir", str(self.home), "--json"))
        found: dict[str, object] = status["dns"]
        return found


def scene_with(lab: Lab, directory: Path, push: str) -> Iterator[Scene]:
    server, client = lab.host("server"), lab.host("client")
    cable = lab.wire(server, client, [f"{LAN}/24"], ["192.0.2.2/24"])
    client.ip("route", "add", "default", "via", LAN)
    config = directory / "server.toml"
    config.write_text(push)
    serving = start_gateway(
        server, directory, "serve", "-c", str(config), wire="wireguard",
        addresses=[f"{TUNNEL}/24", "fd99::1/64"],
    )  # fmt: skip
    wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    home = directory / "home"
    home.mkdir()
    text = add_peer(serving, "client", LAN, "udp").read_text()
    file = home / "client.toml"
    file.touch(0o600)
    file.write_text(
        re.sub("(?m)^address.*\n", "", text).replace("[interface]\n", f"[interface]\n{ACCEPT}")
    )
    host = ResolvedHost(client, directory)
    host.run("resolvectl", "dns", cable.b_device, LAN)
    host.run("resolvectl", "domain", cable.b_device, "lan")
    with (
        NameServer(server, LAN, {name: [IN_LAN] for name in HOSTS}) as lan,
        NameServer(server, TUNNEL, {name: [IN_TUNNEL] for name in HOSTS}) as tunnel,
    ):
        yield Scene(host, home, lan, tunnel)


@pytest.fixture
def scene(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    if missing := resolved_host.missing():
        pytest.skip(f"needs {missing}")
    yield from scene_with(lab, tmp_path, request.param)


@pytest.mark.parametrize("scene", ["[push]\ndns = ['10.99.0.1', '~corp.example']\n"], indirect=True)
def test_split_dns_asks_the_tunnels_server_for_its_domain_alone(scene: Scene) -> None:
    process = scene.connect()
    wait_until(lambda: scene.looked_up(HOSTS[0]) == IN_TUNNEL, "split DNS", timeout_s=20)
    assert scene.looked_up(HOSTS[1]) == IN_LAN
    wait_until(lambda: scene.dns()["is_checked"], "the check", timeout_s=20)
    assert scene.dns() == {
        "servers": [TUNNEL],
        "domains": ["~corp.example"],
        "manager": "systemd-resolved",
        "is_checked": True,
        "fault": "",
    }
    scene.host.restart()
    wait_until(lambda: scene.looked_up(HOSTS[0]) == IN_TUNNEL, "split DNS kept", timeout_s=20)
    # Another program takes it back.
    scene.host.run("resolvectl", "revert", "ft0")
    wait_until(lambda: "; set again" in scene.log(), "set again", timeout_s=15)
    assert scene.looked_up(HOSTS[0]) == IN_TUNNEL
    assert scene.looked_up(HOSTS[1]) == IN_LAN
    # A kill leaves nothing of the interface, and the next start finds nothing in its way.
    process.kill()
    process.wait(10)
    wait_until(lambda: scene.resolver() == scene.before, "the interface is gone")
    process = scene.connect()
    wait_until(lambda: scene.looked_up(HOSTS[0]) == IN_TUNNEL, "split DNS again", timeout_s=20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert scene.resolver() == scene.before


@pytest.mark.parametrize(
    "scene", ["[push]\ndefault = true\ndns = ['10.99.0.1', 'corp.example']\n"], indirect=True
)
def test_with_a_default_route_all_names_are_asked_inside_and_silence_is_said(scene: Scene) -> None:
    scene.tunnel.is_silent = True
    process = scene.connect()
    wait_until(lambda: "DNS does not work" in scene.log(), "the warning", timeout_s=30)
    assert "error=10.99.0.1 does not answer" in scene.log().replace('"', "").replace("'", "")
    assert scene.dns()["fault"] == "10.99.0.1 does not answer"
    status = scene.host.run(*FASTUN, "status", "--run-dir", str(scene.home))
    assert "10.99.0.1 does not answer" in status
    ready = scene.host.run(sys.executable, "-c", READY)
    assert ready.splitlines()[:2] == ["ready", "DNS does not work: 10.99.0.1 does not answer"]
    scene.tunnel.is_silent = False
    n_asked = len(scene.lan.asked_by)
    wait_until(lambda: "DNS works" in scene.log(), "the next check", timeout_s=40)
    assert scene.dns()["fault"] == ""
    for name in HOSTS:
        assert scene.looked_up(name) == IN_TUNNEL
    assert len(scene.lan.asked_by) == n_asked, "nothing is asked outside"
    assert scene.looked_up("files") == IN_TUNNEL, "by the domain that is searched"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert scene.resolver() == scene.before
