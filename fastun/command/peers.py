"""What `fastun peer` does: add, list, show and remove. What changes one is in peer_changes.

`peer add` makes a client's keys here and keeps only what the server needs: the public one and the
pre-shared one. The private key is in the file on stdout and nowhere else. Messages for people
go to stderr. A running gateway is notified of each change over its control socket.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastun.command import client_file
from fastun.command.keys import print_secret
from fastun.command.new_client import addresses_for, file_of, listed, server_side
from fastun.command.peer_fields import NOTHING, Given, changed, remarks
from fastun.config.interface import parse_addresses
from fastun.config.peer import dialled_endpoint, parse_name
from fastun.config.terms import NONE
from fastun.errors import ConfigError, RuntimeFailure, one_line
from fastun.fleet.opened import opened
from fastun.peers.peer import Peer, Server, one_host
from fastun.peers.store import FILE_NAME
from fastun.session import keys

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fastun.command.peer_listing import Listed
    from fastun.peers.directory import PeerDirectory
    from fastun.peers.peer import Address
    from fastun.status.reply import PeerStatus


def add(
    name: str,
    urls: tuple[str, ...],
    cidrs: tuple[str, ...],
    file_format: str,
    state: Path,
    *,
    public_key: str | None = None,
    given: Given = NOTHING,
) -> None:
    """Add a client and print its file, or what the owner of `public_key` needs of this server.

    Raises FastunError, and then none was added.
    """
    parse_name(name, "NAME")
    endpoints = tuple(dialled_endpoint(url, "--endpoint") for url in urls)
    private_key = keys.generate_private() if public_key is None else None
    peer = Peer(
        name=name,
        public_key=keys.public_of(private_key)
        if private_key is not None
        else keys.parse_public(public_key or "", "--public-key"),
        preshared_key=keys.generate_preshared(),
    )
    with opened(state) as directory:
        # Printed before the commit: a client whose file is lost is not added.
        with directory.changes():
            directory.check_name_is_free(name, "NAME")
            peer = changed(peer, given, directory.server(), time.time())
            # Of a peer with a key of its own, the networks given may be all that there is.
            addresses: tuple[Address, ...] = ()
            if cidrs or not (given.allowed_ips and (public_key or given.allowed_ips == (NONE,))):
                addresses = addresses_for(directory, parse_addresses(cidrs, "--address"), state)
                prefixes = (*map(one_host, addresses), *peer.allowed_ips)
                peer = replace(peer, allowed_ips=tuple(dict.fromkeys(prefixes)))
            side = server_side(endpoints, directory, state, is_needed=public_key is None)
            client = file_of(peer, addresses, private_key, side, directory.server())
            directory.add(peer)
            print_secret(client_file.write(client, file_format))
        known_by = addresses or peer.allowed_ips
        click.echo(f"added {name}: {listed(known_by)}, dials {side.how}", err=True)
        warn(given)
        tell_gateway(directory)


def warn(given: Given) -> None:
    """Say what was taken as it was given, and hardly meant."""
    for line in remarks(given):
        click.echo(f"warning: {line}", err=True)


def show_list(state: Path, *, as_json: bool) -> None:
    """Print all peers, those of the gateway's configuration file as well."""
    from fastun.command import peer_listing  # noqa: PLC0415 (rich is not for the others to load)

    listed_peers: list[peer_listing.Listed] = []
    if (state / FILE_NAME).exists():
        with opened(state) as directory:
            listed_peers = _listed(directory)
    if as_json:
        peer_listing.print_json(listed_peers)
    elif listed_peers:
        peer_listing.print_table(listed_peers)
    else:
        text = f"no peers in {state} yet; 'fastun peer add NAME' adds the first"
        click.echo(one_line(text), err=True)


def show(name: str, state: Path) -> None:
    """Print what is known of one peer; ConfigError when there is none of that name."""
    from fastun.command import peer_listing  # noqa: PLC0415 (rich is not for the others to load)

    with existing(state) as directory:
        directory.get(name)
        peer_listing.print_peer(next(each for each in _listed(directory) if each.peer.name == name))


def _listed(directory: PeerDirectory) -> list[Listed]:
    """Return all peers with what the gateway knows of them, if one runs."""
    from fastun.command.peer_listing import Listed  # noqa: PLC0415 (as above)

    server, usage = directory.server(), directory.usage()
    running = {each.name: each for each in _running(server)}
    peers = [(peer, "directory") for peer in directory.peers()]
    peers += [(peer, "file") for peer in server.peers] if server else []
    return [
        Listed(peer=peer, source=source, status=running.get(peer.name), usage=usage.get(peer.name))
        for peer, source in peers
    ]


def _running(server: Server | None) -> list[PeerStatus]:
    from fastun.status import control  # noqa: PLC0415 (it loads what the gateway needs)

    if server is None:
        return []
    try:
        path = control.socket_path(Path(server.run_dir), server.interface)
        status = control.request(path, "status")
    except RuntimeFailure:
        return []
    return status.peers if status.public_key == keys.format_key(server.public_key) else []


def remove(name: str, state: Path) -> None:
    """Remove one peer; ConfigError when there is none of that name."""
    with existing(state) as directory:
        directory.remove(name)
        click.echo(f"removed {name}", err=True)
        tell_gateway(directory)


def existing(state: Path) -> AbstractContextManager[PeerDirectory]:
    """Open the directory, but make none where a wrong --state points to."""
    if not (state / FILE_NAME).exists():
        raise ConfigError(f"--state {state}: contains no peer directory; give the server's --state")
    return opened(state)


def tell_gateway(directory: PeerDirectory) -> None:
    """Let a running gateway pick up what has changed; a gateway that starts reads it anyway."""
    from fastun.status import control  # noqa: PLC0415 (it loads what the gateway needs)

    if directory.notifies:
        click.echo("all gateways of the fleet are notified", err=True)
        return
    server = directory.server()
    if server is None:
        return
    with contextlib.suppress(RuntimeFailure):
        control.request(
            control.socket_path(Path(server.run_dir), server.interface), "peers-changed"
        )
        click.echo(f"the gateway of {server.interface} has applied the change", err=True)
