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
from fastun.lab.tunnel import FASTUN, INTERFACE, GatewayProcess, add_peer, start_gateway
from fastun.session import keys
from fastun.status import control

if TYPE_CHECKING:
    import subprocess
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
    wait_until(lambda: bool(scene.said("peer_up $(reboot)")), "peer_up")
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
    wait_until(lambda: "not finished within 1 s, killed" in scene.log(), "killed")
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


WG_QUICK = """[Interface]
PrivateKey = {private}
Address = 10.98.0.1/24
ListenPort = 51821
SaveConfig = true
PostUp = echo "up $(ip -br addr show dev %i | tr -s ' ')" >> {said}; sleep 617 &
PreUp = echo "pre %i $(ip -br link show dev %i 2>&1)" >> {said}
PostUp = [[ %i == wg7 ]] && echo second >> {said}
PreDown = echo "down $(cat {said} | wc -l) $(ip -br addr show dev %i | tr -s ' ')" >> {said}
PreDown = exit 3
PostDown = echo "post $(ip -br link show dev %i 2>&1)" >> {said}
# a comment that stays
[Peer]
PublicKey = {peer}
AllowedIPs = 10.98.0.2/32
"""


CLIENT = """[Interface]
PrivateKey = {private}
Address = 10.98.0.2/24
[Peer]
PublicKey = {peer}
AllowedIPs = 10.98.0.1/32
Endpoint = 192.0.2.1:51821
"""


def wg_quick(scene: Scene) -> tuple[Path, Path]:
    file, said = scene.directory / "wg7.conf", scene.directory / "wg7.said"
    said.unlink(missing_ok=True)
    server, client = (keys.pair_of(keys.generate_private()) for _ in range(2))
    file.touch(0o600)
    private, peer = keys.format_key(server.private), keys.format_key(client.public)
    file.write_text(WG_QUICK.format(private=private, peer=peer, said=said))
    other = scene.directory / "wg8.conf"
    other.touch(0o600)
    private, peer = keys.format_key(client.private), keys.format_key(server.public)
    other.write_text(CLIENT.format(private=private, peer=peer))
    return file, said


def start(scene: Scene, file: Path, *options: str) -> tuple[subprocess.Popen[bytes], Path]:
    host, role = scene.server.host, "serve"
    if file.stem == "wg8":
        host, role = scene.client.host, "connect"
    home, log = scene.directory / file.stem, file.with_suffix(".log")
    paths = ("--state", str(home), "--run-dir", str(home), "--metrics", "off")
    with log.open("wb") as stderr:
        command = (*FASTUN, role, "-c", str(file), *paths, *options)
        return host.spawn(*command, stderr=stderr), log


def test_commands_of_a_wg_quick_file_run_in_their_order_and_only_if_that_is_allowed(
    scene: Scene,
) -> None:
    file, said = wg_quick(scene)
    process, log = start(scene, file)
    assert process.wait(15) == 2
    assert "wg7.conf: line 6: Interface.PostUp: a shell command; allow it with" in log.read_text()
    process, log = start(scene, file, "--hooks")
    wait_until(lambda: " up  interface=wg7" in log.read_text(), "up", timeout_s=15)
    client, _ = start(scene, file.with_name("wg8.conf"))
    wait_until(lambda: answers_ping(scene.client.host, "10.98.0.1"), "ping", timeout_s=20)
    assert any("617" in line for line in scene.server.host.run("ps", "-ef").stdout.splitlines())
    process.terminate()
    assert process.wait(15) == 0
    pre, up, second, down, post = said.read_text().splitlines()
    assert pre == 'pre wg7 Device "wg7" does not exist.'
    assert up.startswith("up wg7 UNKNOWN 10.98.0.1/24")
    assert second == "second"
    assert down.startswith("down 3 wg7 UNKNOWN 10.98.0.1/24")
    assert post == 'post Device "wg7" does not exist.'
    assert "PreDown: command 2: exit status 3" in log.read_text()
    saved = file.read_text()
    assert "\nEndpoint = 192.0.2.2:" in saved
    assert "# a comment that stays" in saved
    assert file.stat().st_mode & 0o777 == 0o600
    client.terminate()
    assert client.wait(10) == 0
    assert scene.server.host.pids() == []


def test_a_post_up_that_fails_ends_the_start_and_leaves_nothing(scene: Scene) -> None:
    file, said = wg_quick(scene)
    file.write_text(file.read_text().replace("echo second", "ls /nowhere; exit 9; echo"))
    process, log = start(scene, file, "--hooks")
    assert process.wait(15) == 1
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("fastun: "))
    assert "wg7.conf: PostUp: command 2: exit status 9; fix it" in line
    assert "/nowhere" in log.read_text()
    assert [line.split()[0] for line in said.read_text().splitlines()] == [
        *("pre", "up", "down", "post")
    ]
    assert "wg7" not in scene.server.host.devices()
    assert scene.server.host.pids() == []
