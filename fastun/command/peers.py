"""What `fastun peer` does.

`peer add` makes a client's keys here and keeps only what the server needs: the public one and the
pre-shared one. The private key is in the file on stdout and nowhere else. Messages for people
go to stderr. A running gateway is notified of each change over its control socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastun import endpoint
from fastun.command import client_file
from fastun.command.keys import print_secret
from fastun.config import push
from fastun.config.interface import USUAL_LENGTH, parse_addresses
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.config.peer import dialled_endpoint, is_wildcard, parse_name
from fastun.config.settings import PRIVATE_KEY_FILE_NAME
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, RuntimeFailure
from fastun.peers import server_key
from fastun.peers.directory import is_within
from fastun.peers.peer import Peer, Server, is_host, one_host
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from fastun.peers.directory import PeerDirectory
    from fastun.peers.peer import Address, Network

# Addresses for documentation (RFC 5737, RFC 3849): never assigned, so the route to them is the
# default route.
_FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


# -- commands ---------------------------------------------------------------------------------


def add(
    name: str, urls: tuple[str, ...], cidrs: tuple[str, ...], file_format: str, state: Path
) -> None:
    """Add a client and print its file. Raises FastunError, and then none was added."""
    parse_name(name, "NAME")
    endpoints = tuple(dialled_endpoint(url, "--endpoint") for url in urls)
    addresses = parse_addresses(cidrs, "--address")
    with PeerStore(state) as directory:
        # Printed before the commit: a client whose file is lost is not added.
        with directory.changes():
            client, how = _new_client(name, endpoints, addresses, directory, state)
            print_secret(client_file.write(client, file_format))
        click.echo(f"added {name}: {_list(client.addresses)}, dials {how}", err=True)
        _tell_gateway(directory.server())


def show_list(state: Path, *, as_json: bool) -> None:
    """Print all peers, those of the gateway's configuration file as well."""
    from fastun.command import peer_listing  # noqa: PLC0415 (rich is not for the others to load)

    listed: list[peer_listing.Listed] = []
    if (state / FILE_NAME).exists():
        with PeerStore(state) as directory:
            server = directory.server()
            listed += [(peer, "directory") for peer in directory.peers()]
            listed += [(peer, "file") for peer in server.peers] if server else []
    if as_json:
        peer_listing.print_json(listed)
    elif listed:
        peer_listing.print_table(listed)
    else:
        click.echo(f"no peers in {state} yet; 'fastun peer add NAME' adds the first", err=True)


def show(name: str, state: Path) -> None:
    """Print what is known of one peer; ConfigError when there is none of that name."""
    from fastun.command import peer_listing  # noqa: PLC0415 (rich is not for the others to load)

    with _existing(state) as directory:
        peer_listing.print_peer(directory.get(name))


def remove(name: str, state: Path) -> None:
    """Remove one peer; ConfigError when there is none of that name."""
    with _existing(state) as directory:
        directory.remove(name)
        click.echo(f"removed {name}", err=True)
        _tell_gateway(directory.server())


def _existing(state: Path) -> PeerStore:
    """Open the directory, but make none where a wrong --state points to."""
    if not (state / FILE_NAME).exists():
        raise ConfigError(f"--state {state}: contains no peer directory; give the server's --state")
    return PeerStore(state)


def _tell_gateway(server: Server | None) -> None:
    """Let a running gateway pick up what has changed; a gateway that starts reads it anyway."""
    from fastun.status import control  # noqa: PLC0415 (it loads what the gateway needs)

    if server is None:
        return
    with contextlib.suppress(RuntimeFailure):
        control.request(
            control.socket_path(Path(server.run_dir), server.interface), "peers-changed"
        )
        click.echo(f"the gateway of {server.interface} has applied the change", err=True)


# -- a new client -----------------------------------------------------------------------------


def _new_client(
    name: str,
    given_endpoints: tuple[Endpoint, ...],
    given_addresses: tuple[Address, ...],
    directory: PeerDirectory,
    state: Path,
) -> tuple[client_file.Client, str]:
    """Make the keys, add the peer; return what is in its file, and where it dials, for people."""
    server = directory.server()
    addresses = _addresses(directory, server, given_addresses, state)
    if server is not None and server.room_bytes is not None:
        push.check_addresses(addresses, server.room_bytes, "--address")
    endpoints = given_endpoints or directory.public_endpoints()
    how = _list(endpoints)
    if not endpoints:
        endpoints = _guessed_endpoints(server)
        how = f"{_list(endpoints)}, a guess; --endpoint URL gives another and is remembered"
    if given_endpoints:
        directory.remember_public_endpoints(given_endpoints)
    client = client_file.Client(
        name=name,
        mode=server.mode if server else "tun",
        addresses=addresses,
        private_key=keys.generate_private(),
        preshared_key=keys.generate_preshared(),
        server_public_key=_server_public_key(directory, state),
        server_endpoints=endpoints,
        server_networks=((*server.networks, *server.routes) if server else _networks(addresses)),
    )
    directory.add(
        Peer(
            name=name,
            public_key=keys.public_of(client.private_key),
            preshared_key=client.preshared_key,
            allowed_ips=tuple(map(one_host, addresses)),
        )
    )
    return client, how


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
            f"interface {server.interface} has {_list(server.addresses)}: a network of one address"
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
                f" give an address in {_list(networks)}"
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


def _list(values: tuple[object, ...]) -> str:
    return " ".join(map(str, values)) or "no address"
