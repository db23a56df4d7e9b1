"""A client's file: made new by `peer add`, and again by `peer rekey`.

Its addresses are those given, or the next free ones; its endpoints those given, those remembered,
or a guess. The private key is in the file and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import ip_interface
from typing import TYPE_CHECKING

import msgspec

from fastun import endpoint
from fastun.command import client_file
from fastun.config import push
from fastun.config.interface import USUAL_LENGTH
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.config.peer import is_wildcard
from fastun.config.settings import PRIVATE_KEY_FILE_NAME
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peers import server_key
from fastun.peers.directory import is_within
from fastun.peers.peer import is_host
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fastun.peers.directory import PeerDirectory
    from fastun.peers.peer import Address, Network, Peer, Server

# Addresses for documentation (RFC 5737, RFC 3849): never assigned, so the route to them is the
# default route.
_FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class ServerSide(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's file says of the server, but its networks; `how` is for people."""

    public_key: bytes
    endpoints: tuple[Endpoint, ...]
    how: str


def server_side(
    given: tuple[Endpoint, ...], directory: PeerDirectory, state: Path, *, is_needed: bool = True
) -> ServerSide:
    """Return by which key and where clients reach the server; what was given is remembered.

    A peer that keeps its own key may be one that does not dial, so its file can do without.
    """
    if given:
        directory.remember_public_endpoints(given)
    endpoints = given or directory.public_endpoints()
    how = listed(endpoints)
    if not endpoints:
        with contextlib.nullcontext() if is_needed else contextlib.suppress(ConfigError):
            endpoints = _guessed_endpoints(directory.server())
        how = f"{listed(endpoints)}, a guess; --endpoint URL gives another and is remembered"
    return ServerSide(public_key=_server_public_key(directory, state), endpoints=endpoints, how=how)


def file_of(
    peer: Peer,
    addresses: tuple[Address, ...],
    private_key: bytes | None,
    side: ServerSide,
    server: Server | None,
) -> client_file.Client:
    """Return what the file of `peer` says; without a private key it is the peer's own.

    Raises ConfigError where the peer's key is the server's.
    """
    if peer.public_key == side.public_key:
        raise ConfigError("--public-key: this is the server's own key; give the peer's")
    networks = (*server.networks, *server.routes) if server else _networks(addresses)
    return client_file.Client(
        name=peer.name,
        mode=server.mode if server else "tun",
        addresses=addresses,
        private_key=private_key,
        preshared_key=peer.preshared_key,
        server_public_key=side.public_key,
        server_endpoints=side.endpoints,
        server_networks=peer.terms.to or networks,
        dns=server.dns if server else (),
        takes_all=server is not None and server.default and not peer.terms.to,
    )


def addresses_of(peer: Peer, server: Server | None) -> tuple[Address, ...]:
    """Return the addresses of a peer that was added: its hosts in the server's networks."""
    hosts = [prefix for prefix in peer.allowed_ips if prefix.num_addresses == 1]
    if server is None:
        return tuple(ip_interface(host) for host in hosts)
    return tuple(
        ip_interface(f"{host.network_address}/{network.prefixlen}")
        for host in hosts
        for network in server.networks
        if is_within(host, network)
    )


# -- addresses --------------------------------------------------------------------------------


def addresses_for(
    directory: PeerDirectory, given: tuple[Address, ...], state: Path
) -> tuple[Address, ...]:
    """Return the addresses given, or the next free one of each of the server's networks."""
    server = directory.server()
    addresses = _addresses(directory, server, given, state)
    if server is not None and server.room_bytes is not None:
        push.check_addresses(addresses, server.room_bytes, "--address")
    return addresses


def _addresses(
    directory: PeerDirectory,
    server: Server | None,
    given: tuple[Address, ...],
    state: Path,
) -> tuple[Address, ...]:
    """Return the addresses given, or the next free one of each of the server's networks."""
    if given:
        return tuple(_given_address(address, server) for address in given)
    if server is None:
        raise ConfigError(
            f"--state {state}: no gateway has run with it yet, so its networks are unknown;"
            " start 'fastun serve' first, or give --address"
        )
    if not server.addresses and server.mode == "tun":
        raise ConfigError(
            f"interface {server.interface} has no address, so there is no network to assign one"
            " from; give --address to 'fastun serve'"
        )
    return tuple(directory.next_free_address(network) for network in _roomy_networks(server))


def _roomy_networks(server: Server) -> tuple[Network, ...]:
    """Return the networks that have addresses for clients; of two that overlap, the wider one."""
    roomy = [network for network in server.networks if network.num_addresses > 1]
    if server.networks and not roomy:
        own = server.addresses[0]
        raise ConfigError(
            f"interface {server.interface} has {listed(server.addresses)}: a network of one address"
            " has none for clients; serve with the length of a network, as in --address"
            f" {own.ip}/{USUAL_LENGTH[own.version]}"
        )
    return tuple(
        network
        for network in roomy
        if not any(is_within(network, other) for other in roomy if other != network)
    )


def _given_address(given: Address, server: Server | None) -> Address:
    """Return the address with the length of its network, which is one of the server's."""
    for own in server.addresses if server else ():
        if given.version == own.version and given.ip in own.network:
            address = type(given)(f"{given.ip}/{own.network.prefixlen}")
            break
    else:
        if server and server.addresses:
            networks = _roomy_networks(server)
            raise ConfigError(
                f"--address: {given.ip} is outside the networks of {server.interface};"
                f" give an address in {listed(networks)}"
            )
        if given.network.num_addresses == 1:
            raise ConfigError(
                f"--address: {given} lacks its network's prefix length; write it as in 10.9.0.2/24"
            )
        address = given
    if not is_host(address):
        raise ConfigError(
            f"--address: {address.ip} is not a host address in {address.network}; give another"
        )
    return address


# -- the server -------------------------------------------------------------------------------


def _server_public_key(directory: PeerDirectory, state: Path) -> bytes:
    recorded = directory.server_key()
    if recorded == server_key.FORGOTTEN:
        raise ConfigError(
            f"--state {state}: no gateway has run since 'fastun key --forget', so the server's key"
            " is unknown; start 'fastun serve' first"
        )
    if recorded is not None:
        return recorded
    # The key that `serve` will find there.
    file = state / PRIVATE_KEY_FILE_NAME
    if not os.path.lexists(file):
        server_key.check(directory, None, state, file)
    made = keys.public_of(keys.load_or_make_private(file))
    directory.remember_server_key(made)
    return made


def _guessed_endpoints(server: Server | None) -> tuple[Endpoint, ...]:
    """Return where clients probably reach the server: one endpoint a scheme, udp first."""
    listened = server.listen if server else ()
    if not listened:
        listened = tuple(endpoint.parse(url) for url in (DEFAULT_UDP, DEFAULT_TCP))
    udp = [listening for listening in listened if listening.scheme == "udp"]
    tcp = [listening for listening in listened if listening.scheme == "tcp"]
    return tuple(_seen_from_outside(several) for several in (udp, tcp) if several)


def _seen_from_outside(listened: list[Endpoint]) -> Endpoint:
    for named in listened:
        if not is_wildcard(named):
            return named
    scheme, port = listened[0].scheme, listened[0].port
    for family, far_away in _FAR_AWAY:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far_away, port))  # Of a datagram socket, this sends nothing.
            return Endpoint(scheme, probe.getsockname()[0], port)
    raise ConfigError(
        "--endpoint: missing, and this host has no route to guess it from; give the URL at which"
        f" clients reach the server, as in {scheme}://vpn.example.net:{port}"
    )


def _networks(addresses: tuple[Address, ...]) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(address.network for address in addresses))


def listed(values: Iterable[object]) -> str:
    """Return them in a line."""
    return " ".join(map(str, values)) or "no address"
