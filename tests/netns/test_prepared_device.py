"""A device that another program made, and that stays: fastun leaves it as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, GatewayProcess, start_gateway
from tests.support.host_state import differences, host_state
from tests.support.kill_all import kill_all
from tests.support.serve_and_dial import connect_alone

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

THEIRS = "10.5.0.1/24"


@pytest.fixture
def client(lab: Lab) -> Host:
    client, internet = lab.host("client"), lab.host("internet")
    lab.wire(client, internet, ["192.0.2.2/24"], ["192.0.2.1/24"])
    client.ip("route", "add", "default", "via", "192.0.2.1")
    client.ip("tuntap", "add", "wg0", "mode", "tun")
    client.ip("address", "add", THEIRS, "dev", "wg0")
    return client


def without(state: dict[str, str], line: str) -> dict[str, str]:
    return {
        name: "\n".join(each for each in text.splitlines() if not each.startswith(line))
        for name, text in state.items()
    }


def kill(gateway: GatewayProcess) -> None:
    kill_all(gateway.host)
    gateway.process.wait(10)
    wait_until(lambda: not gateway.host.pids(), "all of it gone")


@pytest.mark.parametrize("is_up", [False, True])
def test_a_prepared_device_is_as_it_was_after_each_of_two_runs(
    client: Host, tmp_path: Path, *, is_up: bool
) -> None:
    if is_up:
        client.ip("link", "set", "wg0", "up", "mtu", "1300", "txqueuelen", "77")
    before = host_state(client)
    for _ in range(2):
        gateway = connect_alone(client, tmp_path)
        assert "10.9.0.2/24" in client.ip("address", "show", "wg0")
        assert THEIRS in client.ip("address", "show", "wg0"), "it was there"
        assert "wg0" in client.ip("route", "get", "203.0.113.1")
        assert gateway.stop() == 0
        # A device that is up gets this from the kernel with its first carrier.
        multicast = "multicast ff00::/8 dev wg0"
        assert differences(without(before, multicast), without(host_state(client), multicast)) == []
    log = gateway.log_file.read_text()
    assert log.count("the interface has other addresses, which are kept") == 2
    assert f"addresses={THEIRS}" in log


def test_after_a_kill_the_next_start_goes_on_with_the_device_and_its_end_restores_it(
    client: Host, tmp_path: Path
) -> None:
    before = host_state(client)
    kill(connect_alone(client, tmp_path))
    assert "wg0" in client.ip("route", "get", "203.0.113.1"), "the host is off the net"
    gateway = connect_alone(client, tmp_path)
    client.ip("link", "set", "wg0", "mtu", "1444")
    assert gateway.stop() == 0
    assert differences(before, host_state(client)) == [
        line for line in differences(before, host_state(client)) if "mtu" in line and "1444" in line
    ]
    client.ip("link", "set", "wg0", "mtu", "1500")
    assert differences(before, host_state(client)) == []


def test_after_a_kill_the_start_of_another_tunnel_gives_the_host_its_network_back(
    client: Host, tmp_path: Path
) -> None:
    before = host_state(client)
    kill(connect_alone(client, tmp_path))
    assert "wg0" in client.ip("route", "get", "203.0.113.1"), "the host is off the net"
    home = str(tmp_path / "client")
    command = ["serve", "-i", "wg1", "--state", home, "--run-dir", home, "--metrics", "off"]
    other = client.spawn(*FASTUN, *command)
    wait_until(
        lambda: "to-internet" in client.ip("route", "get", "203.0.113.1"), "back", timeout_s=15
    )
    other.terminate()
    other.wait(10)
    assert differences(before, host_state(client)) == []


def test_a_prepared_tap_leaves_the_bridge_that_it_was_made_a_port_of(
    lab: Lab, tmp_path: Path
) -> None:
    host = lab.host("server")
    host.ip("tuntap", "add", "tap0", "mode", "tap")
    file = tmp_path / "server.toml"
    file.write_text('[interface]\nbridge = "br0"\n')
    before = host_state(host)
    serving = start_gateway(
        *(host, tmp_path, "serve", "-c", str(file)), wire="wireguard", mode="tap", interface="tap0"
    )
    wait_until(
        lambda: any("not a port" in line for line in serving.log_tail(50)), "it waits", timeout_s=15
    )
    host.ip("link", "add", "br0", "type", "bridge")
    wait_until(lambda: "master br0" in host.ip("link", "show", "tap0"), "joined", timeout_s=15)
    assert serving.stop() == 0
    assert "master" not in host.ip("link", "show", "tap0")
    host.ip("link", "delete", "br0")
    assert differences(before, host_state(host)) == []


def test_what_is_not_a_bridge_is_refused_in_one_line(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("server")
    host.ip("tuntap", "add", "lan0", "mode", "tap")
    file = tmp_path / "server.toml"
    file.write_text('[interface]\nbridge = "lan0"\n')
    serving = start_gateway(
        *(host, tmp_path, "serve", "-c", str(file)), wire="wireguard", mode="tap"
    )
    assert serving.process.wait(15) == 1
    assert serving.log_tail(1)[0].endswith(
        "bridge lan0: it is an interface, but not a bridge; give the name of a bridge"
    )
