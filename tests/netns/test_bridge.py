"""A TAP device in a bridge of the server's host; see tests/conftest.py for the topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from tests.conftest import StartTunnel


def test_a_bridge_with_a_port_of_a_larger_mtu_is_warned_of_until_they_fit(
    tunnel: StartTunnel,
) -> None:
    mtu = ("--mtu", "1398")
    pair = tunnel(mode="tap", server_arguments=mtu, client_arguments=mtu)
    host = pair.server.host

    def said(text: str) -> list[str]:
        return [line for line in pair.server.log_tail(100) if text in line]

    host.ip("link", "add", "br0", "type", "bridge")
    host.ip("tuntap", "add", "dev", "lan0", "mode", "tap")
    for port in ("ft0", "lan0"):
        host.ip("link", "set", port, "master", "br0")
    wait_until(lambda: bool(said("the bridge drops frames")), "the warning")
    (line,) = said("the bridge drops frames")
    for figure in (" warning ", "mtu=1398", "lan0 (1500)", "bridge=br0", "interface=ft0"):
        assert figure in line
    host.ip("link", "set", "lan0", "mtu", "1398")
    wait_until(lambda: bool(said("fit the TAP device now")), "the end of it")
    assert len(said("the bridge drops frames")) == 1
