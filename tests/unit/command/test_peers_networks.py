"""Which networks a client's addresses are from, and what is advised where a server has none."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import TYPE_CHECKING

import pytest

from fastun.command import peers as peer_commands
from fastun.config.interface import parse_addresses
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peers.peer import Server
from fastun.peers.store import PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

URLS = ("udp://vpn.example.net",)


def serve(state: Path, *addresses: str) -> Path:
    """Have a gateway with these addresses served with the state directory."""
    server = Server(
        interface="fastun0",
        run_dir=str(state),
        mode="tun",
        addresses=parse_addresses(addresses, "--address"),
        public_key=keys.public_of(keys.generate_private()),
        listen=(Endpoint("udp", "::", 51820),),
    )
    with PeerStore(state) as store:
        store.remember_server(server)
    return state


def added(state: Path, *cidrs: str) -> list[str]:
    peer_commands.add("a", URLS, cidrs, "toml", state)
    with PeerStore(state) as store:
        return [str(prefix) for peer in store.peers() for prefix in peer.allowed_ips]


@pytest.mark.parametrize("cidrs", [(), ("10.9.0.2/32",), ("10.9.0.1/32",)])
@pytest.mark.parametrize(
    ("address", "advised"), [("10.9.0.1/32", "10.9.0.1/24"), ("fd00:9::1/128", "fd00:9::1/64")]
)
def test_a_server_with_a_network_of_one_address_is_advised_to_widen_it(
    tmp_path: Path, cidrs: tuple[str, ...], address: str, advised: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        added(serve(tmp_path, address), *cidrs)
    assert f"as in --address {advised}" in str(caught.value) or "our own address" in str(
        caught.value
    )
    assert f"address in {address}" not in str(caught.value)


def test_a_client_gets_addresses_of_the_networks_that_have_some(tmp_path: Path) -> None:
    assert added(serve(tmp_path, "10.9.0.1/24", "fd00:9::1/128")) == ["10.9.0.2/32"]


def test_of_networks_that_overlap_a_client_gets_one_address(tmp_path: Path) -> None:
    state = serve(tmp_path, "10.9.0.1/24", "10.9.0.2/16", "10.9.0.3/24", "10.8.0.1/24")
    assert added(state) == ["10.9.0.4/32", "10.8.0.2/32"]


@pytest.mark.parametrize("address", ["10.0.0.1/0", "fd00::1/0"])
def test_an_address_whose_network_is_everything_is_refused(address: str) -> None:
    usual = ip_interface(address).ip
    with pytest.raises(ConfigError, match=f"all addresses its network; .* as in {usual}/(24|64)$"):
        parse_addresses((address,), "interface.address")
