"""Which peers a gateway of a fleet can have, of rows that anything may have written.

Others can write to a database, by other programs too. A peer that breaks a rule is left out and
named, and costs no other peer anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastun.config.ranges import KEEPALIVE_MAX_S
from fastun.errors import ConfigError, quote
from fastun.peers.peer import Peer, check_together, is_name, one_host
from fastun.peers.rows import peers_of
from fastun.peers.terms import TO_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastun.peers.peer import Network, Server
    from fastun.peers.rows import Row


class Sound(NamedTuple):
    """Peers of rows, by name; and why others were left out, by what names them."""

    peers: dict[str, Peer]
    left_out: dict[str, str]


def sound(rows: Mapping[str, list[Row]], server: Server | None) -> Sound:
    """Return the peers of these rows, by name, that go together.

    Of two that do not, the one is in whose name is first. Those of the gateway's own file are
    before all.
    """
    peers: dict[str, Peer] = {}
    left_out: dict[str, str] = {}
    taken = Taken(server)
    for name in sorted(rows):
        try:
            peer = peer_of(rows[name])
            taken.add(peer)
        except ConfigError as error:
            left_out[name] = str(error)
        else:
            peers[name] = peer
    return Sound(peers, left_out)


def named(name: str) -> str:
    """Return what names a peer that is left out."""
    return name if is_name(name) else quote(name)


def peer_of(rows: list[Row]) -> Peer:
    """Return the peer of its rows; ConfigError where it has what no command would have written."""
    try:
        if rows[0][3] is None or rows[0][5] is None:
            raise ConfigError("its endpoints or its terms are too long")
        (peer,) = peers_of(rows)
        _check(peer)
    # A mistake in a row is one of many kinds, and none is worth another peer's session.
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ConfigError("its row cannot be read") from None
    return peer


def _check(peer: Peer) -> None:
    for key in (peer.public_key, peer.preshared_key):
        if key is not None and len(key) != 32:  # noqa: PLR2004
            raise ConfigError("its key must be 32 bytes long")
    if not any(peer.public_key):
        raise ConfigError("its public key is zero")
    if not 0 <= peer.keepalive_s <= KEEPALIVE_MAX_S:
        raise ConfigError(f"its keepalive is out of range (0-{KEEPALIVE_MAX_S} seconds)")
    if any(each.scheme != "udp" for each in peer.endpoints):
        raise ConfigError("serve only accepts TCP connections, and its endpoint is one of TCP")
    terms = peer.terms
    if len(terms.to) > TO_MAX:
        raise ConfigError(f"it may send to {len(terms.to)} networks; at most {TO_MAX}")
    quota = terms.quota
    rates = (terms.limit.outbound, terms.limit.inbound)
    sizes = (terms.limit.burst_bytes, *((quota.month_bytes, quota.then_rate) if quota else ()))
    if any(rate is not None and not 0 < rate < 1 << 60 for rate in rates):
        raise ConfigError("its limit is out of range")
    if any(not 0 <= size < 1 << 60 for size in sizes):
        raise ConfigError("its burst or quota is out of range")


class Taken:
    """What peers have that no other may have: check_together, one peer after the other."""

    def __init__(self, server: Server | None) -> None:
        """Begin with what the gateway itself has, and the peers of its file."""
        own: Iterable[Network] = map(one_host, server.addresses) if server else ()
        self._prefixes: dict[Network, Peer | None] = dict.fromkeys(own)
        self._keys: dict[bytes, Peer] = {}
        self._names: dict[str, Peer] = {}
        self._own = server.addresses if server else ()
        for peer in server.peers if server else ():
            self.add(peer)

    def check(self, peer: Peer) -> None:
        """Raise ConfigError where another has what it has."""
        sharing = [self._keys.get(peer.public_key), self._names.get(peer.name)]
        sharing += [self._prefixes.get(prefix) for prefix in peer.allowed_ips]
        others = {each.name: each for each in sharing if each is not None}
        check_together([*others.values(), peer], self._own)

    def add(self, peer: Peer) -> None:
        """Have it among them; ConfigError as above."""
        self.check(peer)
        self._names[peer.name] = self._keys[peer.public_key] = peer
        self._prefixes.update(dict.fromkeys(peer.allowed_ips, peer))
