"""Programs that a gateway runs when it and its peers come and go.

server 192.0.2.1 (10.99.0.1)  ==veth==  client 192.0.2.2 (10.99.0.2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import INTERFACE, GatewayProcess, add_peer, start_gateway
from fastun.status import control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Writes its environment, and what the device has at that moment.
RECORD = """#!/bin/sh
facts=$(env | grep FASTUN_ | sort | tr '\\n' ' ')
echo "$@: $facts$(ip -br addr show dev $FASTUN_INTERFACE)" >> DIR/said
"""
HANG = """#!/bin/sh
trap '' TERM INT
sleep 613 &
echo $$ $! > DIR/hung
i=0; while [ $i -lt 200 ]; do echo "line $i"; i=$((i+1)); done
wait
"""


@dataclass
class Scene:
    directory: Path
    server: GatewayProcess
    client: GatewayProcess

    def said(self, first: str) -> list[str]:
        file = self.directory / "said"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(f"{first}:")]

    def log(self) -> str:
        return self.server.log_file.read_text()

    def reload(self, hooks: str) -> None:
        (self.directory / "gateway.toml").write_text(f"[hooks]\n{hooks}\n")
        control.reload(control.socket_path(self.server.log_file.parent, INTERFACE))

    def reconnect(self) -> None:
        assert self.client.stop() == 0
        file = self.server.log_file.parent / "client.toml"
        arguments = ("connect", str(file))
        self.client = start_gateway(self.client.host, self.directory, *arguments, wire="wireguard")
        wait_until(lambda: answers_ping(self.client.host, "10.99.0.1"), "ping", timeout_s=20)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    directory = tmp_path_factory.mktemp("hooks")
    for name, text in {"record": RECORD, "hang": HANG}.items():
        (directory / name).write_text(text.replace("DIR", str(directory)))
        (directory / name).chmod(0o755)
    record, file = directory / "record", directory / "gateway.toml"
    events = ("up", "down", "peer_up", "peer_down")
    hooks = "".join(f'{each} = ["{record}", "{each}", "$(reboot)"]\n' for each in events)
    file.write_text(f"[hooks]\n{hooks}")
    with Lab() as lab:
        server_host, client_host = lab.host("server"), lab.host("client")
        lab.wire(server_host, client_host, ["192.0.2.1/24"], ["192.0.2.2/24"])
        arguments = ("serve", "-c", str(file))
        addresses = ("10.99.0.1/24",)
        server = start_gateway(
            server_host, directory, *arguments, wire="wireguard", addresses=addresses
        )
        client_file = add_peer(server, "client", "192.0.2.1", "udp")
        client = start_gateway(
            client_host, directory, "connect", str(client_file), wire="wireguard"
        )
        wait_until(lambda: answers_ping(client_host, "10.99.0.1"), "the tunnel", timeout_s=20)
        yield Scene(directory, server, client)


def test_up_runs_before_the_first_packet_with_the_device_as_it_will_be(scene: Scene) -> None:
    (line,) = scene.said("up $(reboot)")
    assert "FASTUN_ADDRESSES=10.99.0.1/24 FASTUN_EVENT=up FASTUN_INTERFACE=ft0" in line
    assert "FASTUN_MODE=tun FASTUN_ROLE=serve" in line
    assert line.partition("ft0  ")[2].split()[:2] == ["UNKNOWN", "10.99.0.1/24"]
    scene.server.check_alive()


def test_peer_up_has_the_peer_in_its_environment(scene: Scene) -> None:
    wait_until(lambda: bool(scene.said("peer_up $(reboot)")), "peer_up", timeout_s=10)
    (line,) = scene.said("peer_up $(reboot)")
    for fact in ("=client ", "_ALLOWED_IPS=10.99.0.2/32 ", "_TRANSPORT=udp ", "_PUBLIC_KEY="):
        assert f"FASTUN_PEER{fact}" in line
    assert "FASTUN_PEER_ENDPOINT=udp://192.0.2.2:" in line


def test_a_hook_that_hangs_is_killed_and_one_that_fails_is_said_while_packets_pass(
    scene: Scene,
) -> None:
    hang, record = scene.directory / "hang", scene.directory / "record"
    scene.reload(
        f'up = ["{record}"]\ndown = ["{record}", "down"]\npeer_up = ["{hang}"]\n'
        'peer_down = ["sh", "-c", "exit 7"]\ntimeout = 1'
    )
    scene.reconnect()
    wait_until(lambda: "not finished within 1 s, killed" in scene.log(), "killed", timeout_s=10)
    assert "hook=peer_down  peer=client  program=" in scene.log()
    assert "error='exit status 7'" in scene.log()
    pids = [int(pid) for pid in (scene.directory / "hung").read_text().split()]
    assert not set(pids) & set(scene.server.host.pids())
    shown = scene.log().count("text='line ")
    assert 5 <= shown <= 50, "bounded, and its start is shown"
    assert answers_ping(scene.client.host, "10.99.0.1")


def test_at_the_end_peers_go_first_and_the_device_last_and_no_process_is_left(scene: Scene) -> None:
    record = scene.directory / "record"
    scene.reload(f'down = ["{record}", "down"]\npeer_down = ["{record}", "peer_down"]')
    server = scene.server
    assert server.stop(timeout_s=15) == 0
    last = [line.split()[0] for line in (scene.directory / "said").read_text().splitlines()][-2:]
    assert last == ["peer_down:", "down:"]
    (line,) = scene.said("down")
    assert "FASTUN_REASON=SIGTERM" in line
    assert "10.99.0.1/24" in line.partition("ft0  ")[2]
    assert server.host.pids() == []
