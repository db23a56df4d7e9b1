"""The contents of the peer store, as values: rows of peers, and texts of facts.

Whatever cannot be read raises ValueError or TypeError: it was checked before it was put there, so
the file is damaged or was edited.
"""

import functools
from collections.abc import Iterable
from ipaddress import ip_interface
from itertools import groupby
from typing import Any, Self

import msgspec

from fastun import endpoint
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peers import prefixes
from fastun.peers.directory import Changes
from fastun.peers.peer import Network, Peer, Server, is_name
from fastun.peers.terms import Quota, RateLimit, Terms
from fastun.vocabulary import Mode

# Name, public key, pre-shared key, endpoints, keepalive in seconds, terms, one of the allowed IPs.
Row = tuple[str, bytes, bytes | None, str, int, str, str | None]


def peers_of(rows: list[Row]) -> tuple[Peer, ...]:
    """Return the peers of rows in the order of names: a row a prefix, one without when none."""
    peers: list[Peer] = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        of_peer = list(group)
        name, public_key, preshared_key, endpoints, keepalive_s, terms, _ = of_peer[0]
        if not is_name(name):
            raise ValueError("not a name")
        peers.append(
            Peer(
                name=name,
                public_key=public_key,
                preshared_key=preshared_key,
                allowed_ips=tuple(_network(row[6]) for row in of_peer if row[6] is not None),
                endpoints=endpoints_of(endpoints),
                keepalive_s=keepalive_s,
                terms=terms_of(terms),
            )
        )
    return tuple(peers)


def changes_of(rows: list[tuple[Any, ...]], since: int, n_kept: int) -> Changes | None:
    """Return what has changed, of rows with the version and a peer's name before what it is now.

    None where ``since`` was too long ago: ``n_kept`` versions are kept.
    """
    version = int(rows[0][0])
    if since < 0 or not version - n_kept <= since <= version:
        return None
    gone = tuple(row[1] for row in rows if row[1] is not None and row[2] is None)
    return Changes(version, peers_of([row[2:] for row in rows if row[2] is not None]), gone)


def networks_of(rows: list[tuple[str]]) -> list[Network]:
    """Return the networks of rows with their texts."""
    return [_network(text) for (text,) in rows]


def by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each peer, in the order in which they come."""
    return {name: list(group) for name, group in groupby(rows, key=lambda row: row[0])}


def rows_of(peer: Peer) -> list[Row]:
    """Return the rows of a peer, as `peers_of` takes them."""
    columns = columns_of(peer)
    return [(*columns, str(prefix)) for prefix in peer.allowed_ips] or [(*columns, None)]


# A change is most often one peer's, and all others' prefixes are those of the last look.
@functools.lru_cache(maxsize=16384)
def _network(text: str) -> Network:
    prefix = prefixes.parse(text)
    if prefix != prefix.without_host():
        raise ValueError("bits set beyond the prefix length")
    return prefix.network()


def endpoints_of(text: str) -> tuple[Endpoint, ...]:
    """Return the endpoints of their URLs, which spaces separate."""
    try:
        return tuple(map(endpoint.parse, text.split()))
    except ConfigError as error:
        raise ValueError from error  # What is in the store was checked before it was put there.


class _TermsText(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The column `terms`. Rates are bytes a second, `expires` Unix time."""

    enabled: bool = True
    expires: int | None = None
    outbound: int | None = None
    inbound: int | None = None
    burst: int = 0
    quota: int | None = None
    quota_then: int = 0
    to: tuple[str, ...] = ()
    note: str = ""


@functools.lru_cache(maxsize=256)  # most peers' are the same, and then one object
def terms_of(text: str) -> Terms:
    """Return the terms of the text of terms_text()."""
    found = msgspec.json.decode(text, type=_TermsText)
    quota = found.quota
    return Terms(
        enabled=found.enabled,
        expires=found.expires,
        limit=RateLimit(outbound=found.outbound, inbound=found.inbound, burst_bytes=found.burst),
        quota=None if quota is None else Quota(month_bytes=quota, then_rate=found.quota_then),
        to=tuple(map(_network, found.to)),
        note=found.note,
    )


def terms_text(terms: Terms) -> str:
    """Return the terms as JSON, without what is as usual."""
    quota = terms.quota
    text = _TermsText(
        enabled=terms.enabled,
        expires=terms.expires,
        outbound=terms.limit.outbound,
        inbound=terms.limit.inbound,
        burst=terms.limit.burst_bytes,
        quota=None if quota is None else quota.month_bytes,
        quota_then=0 if quota is None else quota.then_rate,
        to=tuple(map(str, terms.to)),
        note=terms.note,
    )
    return msgspec.json.encode(text).decode()


def columns_of(peer: Peer) -> tuple[str, bytes, bytes | None, str, int, str]:
    """Return a row of the table `peer`."""
    return (
        peer.name,
        peer.public_key,
        peer.preshared_key,
        " ".join(map(str, peer.endpoints)),
        peer.keepalive_s,
        terms_text(peer.terms),
    )


class _PeerText(msgspec.Struct, frozen=True):
    """A peer of the server's configuration file."""

    name: str
    public_key: bytes
    allowed_ips: tuple[str, ...]
    terms: str = "{}"  # Not in what older versions wrote.


class ServerText(msgspec.Struct, frozen=True):
    """The fact `server`."""

    interface: str
    run_dir: str
    mode: Mode
    addresses: tuple[str, ...]
    public_key: bytes
    listen: tuple[str, ...]
    peers: tuple[_PeerText, ...]
    routes: tuple[str, ...] = ()  # Not in what older versions wrote, as the next.
    room_bytes: int | None = None
    dns: tuple[str, ...] = ()
    default: bool = False

    @classmethod
    def of(cls, server: Server) -> Self:
        """Return the text of `server`."""
        return cls(
            server.interface,
            server.run_dir,
            server.mode,
            tuple(map(str, server.addresses)),
            server.public_key,
            tuple(map(str, server.listen)),
            tuple(
                _PeerText(
                    peer.name,
                    peer.public_key,
                    tuple(map(str, peer.allowed_ips)),
                    terms_text(peer.terms),
                )
                for peer in server.peers
            ),
            tuple(map(str, server.routes)),
            server.room_bytes,
            server.dns,
            server.default,
        )

    def value(self) -> Server:
        """Return the server of this text; ValueError when it is none."""
        return Server(
            interface=self.interface,
            run_dir=self.run_dir,
            mode=self.mode,
            addresses=tuple(map(ip_interface, self.addresses)),
            public_key=self.public_key,
            listen=endpoints_of(" ".join(self.listen)),
            routes=tuple(map(_network, self.routes)),
            room_bytes=self.room_bytes,
            dns=self.dns,
            default=self.default,
            peers=tuple(
                Peer(
                    name=peer.name,
                    public_key=peer.public_key,
                    allowed_ips=tuple(map(_network, peer.allowed_ips)),
                    terms=terms_of(peer.terms),
                )
                for peer in self.peers
            ),
        )
