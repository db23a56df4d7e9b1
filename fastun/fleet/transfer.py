"""Peers as lines of JSON: from one directory to another of any kind, and as a backup.

The first line says what follows, each other one is a peer with all that the server knows of it: its
pre-shared key too, so the lines are secret.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fastun.config.peer import parse_name
from fastun.errors import ConfigError, quote
from fastun.fleet.sound import sound
from fastun.peers.rows import terms_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.peers.directory import PeerDirectory
    from fastun.peers.peer import Peer
    from fastun.peers.rows import Row

FORMAT: Final = 1
BYTES_MAX: Final = 256 << 20
_KEY_BYTES: Final = 32

_USUAL: Final = msgspec.Raw(b"{}")
_Key = Annotated[str, Meta(min_length=44, max_length=44)]


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line."""

    fastun_peers: Literal[1]


class _Line(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A peer. `terms` are as in the directory."""

    name: str
    public_key: _Key
    preshared_key: _Key | None = None
    allowed_ips: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    keepalive: int = 0
    terms: msgspec.Raw = _USUAL


def written(peers: Iterable[Peer]) -> Iterator[str]:
    """Yield the lines of these peers."""
    yield msgspec.json.encode(_Head(fastun_peers=FORMAT)).decode() + "\n"
    for peer in peers:
        terms = terms_text(peer.terms)
        line = _Line(
            name=peer.name,
            public_key=_text(peer.public_key),
            preshared_key=None if peer.preshared_key is None else _text(peer.preshared_key),
            allowed_ips=tuple(map(str, peer.allowed_ips)),
            endpoints=tuple(map(str, peer.endpoints)),
            keepalive=peer.keepalive_s,
            terms=_USUAL if terms == "{}" else msgspec.Raw(terms.encode()),
        )
        yield msgspec.json.encode(line).decode() + "\n"


def read(content: bytes, where: str) -> list[Peer]:
    """Return the peers of lines; ConfigError names the line that is wrong, and shows no key."""
    if len(content) > BYTES_MAX:
        raise ConfigError(f"{where}: longer than {BYTES_MAX >> 20} MiB, not a list of peers")
    first, *lines = content.splitlines() or [b""]
    try:
        msgspec.json.decode(first, type=_Head)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ConfigError(
            f"{where}: not a list of peers; give what 'fastun peer export' has printed"
        ) from None
    peers = []
    for number, line in enumerate(lines, 2):
        if line.strip():
            peers.append(_peer(line, f"{where}: line {number}"))
    return peers


def _peer(line: bytes, where: str) -> Peer:
    try:
        found = msgspec.json.decode(line, type=_Line)
        text = bytes(found.terms).decode()
        first: Row = (
            found.name,
            _bytes(found.public_key),
            None if found.preshared_key is None else _bytes(found.preshared_key),
            " ".join(found.endpoints),
            found.keepalive,
            text,
            None,
        )
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Their own texts would show what may be a part of a key.
        raise ConfigError(f"{where}: not a peer; give what 'fastun peer export' printed") from None
    parse_name(found.name, f"{where}: name")
    rows: list[Row] = [(*first[:6], prefix) for prefix in found.allowed_ips]
    peers, left_out = sound({found.name: rows or [first]}, None)
    if left_out:
        raise ConfigError(f"{where}: peer {quote(found.name)}: {next(iter(left_out.values()))}")
    return peers[found.name]


def add_all(directory: PeerDirectory, peers: Iterable[Peer]) -> tuple[int, int]:
    """Add those that are not there yet: all, or none on an exception.

    Return how many were added, and how many were there as they are. ConfigError: one is there, but
    is another, or shares something with another.
    """
    n_added = n_same = 0
    with directory.changes():
        for peer in peers:
            there = directory.named(peer.name)
            if there == peer:
                n_same += 1
            elif there is not None:
                raise ConfigError(
                    f"peer {quote(peer.name)} is there already, and differs; remove or rename it,"
                    " or remove its line; nothing was added"
                )
            else:
                directory.add(peer)
                n_added += 1
    return n_added, n_same


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _bytes(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != _KEY_BYTES:
        raise ValueError("not a key")
    return key
