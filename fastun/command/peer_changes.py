"""What `fastun peer` does to a peer that is there: set, enable, disable, rename, rekey, and more.

Each is one transaction of the directory. Only what changes keys or addresses can end a session.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from msgspec import structs

from fastun.command import client_file
from fastun.command.keys import print_secret
from fastun.command.new_client import addresses_of, file_of, server_side
from fastun.command.peer_fields import NOTHING, Given, changed
from fastun.command.peers import existing, tell_gateway, warn
from fastun.config import terms
from fastun.config.peer import dialled_endpoint, parse_name
from fastun.errors import ConfigError
from fastun.peers.terms import month_of
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.peers.directory import PeerDirectory
    from fastun.peers.peer import Peer
    from fastun.peers.terms import Usage


def change(name: str, given: Given, state: Path) -> None:
    """Change what was given of one peer, and say what it is now. Raises FastunError."""
    if given == NOTHING:
        raise click.UsageError("nothing to change; give a value, or an option with one")
    now = time.time()
    with existing(state) as directory:
        with directory.changes():
            peer = changed(directory.get(name), given, directory.server(), now)
            if given.quota is not None:
                _check_quota(peer, directory.usage().get(name), now)
            before = _replace(directory, name, peer)
        _say(before, peer, directory)
        warn(given)


def reset_timestamp(name: str, state: Path) -> None:
    """Have all gateways forget up to when a peer has connected. Raises FastunError."""
    with existing(state) as directory:
        directory.reset_timestamp(name)
        click.echo(f"changed {name}: its next handshake is accepted, whatever its clock", err=True)


def _check_quota(peer: Peer, used: Usage | None, now: float) -> None:
    """Raise ConfigError where more was used this month than the quota allows."""
    quota = peer.terms.quota
    if quota is None or used is None or used.month != month_of(now):
        return
    if used.n_bytes >= quota.month_bytes:
        raise ConfigError(
            f"quota: {peer.name} has used {used.n_bytes / 1e9:.3g} GB this month already; give"
            f" more, or run 'fastun peer disable {peer.name}'"
        )


def set_enabled(name: str, state: Path, *, enabled: bool) -> None:
    """Let one peer connect, or not any more, and keep all that is known of it."""
    with existing(state) as directory:
        with directory.changes():
            peer = directory.get(name)
            peer = replace(peer, terms=structs.replace(peer.terms, enabled=enabled))
            before = _replace(directory, name, peer)
        _say(before, peer, directory)


def rename(name: str, new_name: str, state: Path) -> None:
    """Give one peer another name; its session goes on."""
    parse_name(new_name, "NEW_NAME")
    with existing(state) as directory:
        with directory.changes():
            peer = replace(directory.get(name), name=new_name)
            if new_name != name:
                directory.check_name_is_free(new_name, "NEW_NAME")
            before = _replace(directory, name, peer)
        _say(before, peer, directory)


def _replace(directory: PeerDirectory, name: str, peer: Peer) -> Peer:
    """Replace the peer of that name, if it is another, and return what it was."""
    before = directory.get(name)
    if peer != before:
        directory.replace(name, peer)
    return before


def _say(before: Peer, peer: Peer, directory: PeerDirectory) -> None:
    said = "changed" if peer != before else "unchanged"
    click.echo(f"{said} {before.name}: {summary(before, peer)}", err=True)
    if peer != before:
        tell_gateway(directory)


def summary(before: Peer, peer: Peer) -> str:
    """Return in a line what is different now, and all of its terms."""
    parts = [f"named {peer.name}"] * (peer.name != before.name)
    if peer.allowed_ips != before.allowed_ips:
        parts.append(f"allowed IPs {' '.join(map(str, peer.allowed_ips)) or 'none'}")
    if peer.endpoints != before.endpoints:
        parts.append(f"endpoints {' '.join(map(str, peer.endpoints)) or 'none'}")
    if peer.keepalive_s != before.keepalive_s:
        parts.append(f"keepalive {peer.keepalive_s or 'off'}")
    if peer.preshared_key != before.preshared_key:
        parts.append("pre-shared key " + ("changed" if peer.preshared_key else "removed"))
    if peer.terms.enabled and not before.terms.enabled:
        parts.append("enabled")
    parts += terms.said(peer.terms).values()
    parts += terms.gone(before.terms, peer.terms)
    return ", ".join(parts) or "as before"


def rekey(
    name: str,
    state: Path,
    *,
    public_key: str | None,
    only_psk: bool,
    urls: tuple[str, ...],
    file_format: str,
) -> None:
    """Give one peer new keys and print its new file; who has the old ones is cut off.

    Raises FastunError, and then nothing was changed.
    """
    if public_key is not None and only_psk:
        raise ConfigError("--psk: conflicts with --public-key; give one of the two")
    endpoints = tuple(dialled_endpoint(url, "--endpoint") for url in urls)
    with existing(state) as directory:
        with directory.changes():
            before = directory.get(name)
            private_key, peer = _with_new_keys(before, public_key, only_psk=only_psk)
            side = server_side(endpoints, directory, state, is_needed=private_key is not None)
            directory.replace(name, peer)
            server = directory.server()
            addresses = addresses_of(peer, server)
            client = file_of(peer, addresses, private_key, side, server)
            print_secret(client_file.write(client, file_format))
        click.echo(f"changed {name}: new keys, the old ones are cut off", err=True)
        tell_gateway(directory)


def _with_new_keys(
    peer: Peer, public_key: str | None, *, only_psk: bool
) -> tuple[bytes | None, Peer]:
    """Return the private key, if it was made here, and the peer."""
    if only_psk:
        return None, replace(peer, preshared_key=keys.generate_preshared())
    if public_key is not None:
        return None, replace(peer, public_key=keys.parse_public(public_key, "--public-key"))
    private_key = keys.generate_private()
    return private_key, replace(
        peer,
        public_key=keys.public_of(private_key),
        preshared_key=keys.generate_preshared(),
    )
