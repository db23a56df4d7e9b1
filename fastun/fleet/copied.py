"""The copy of a fleet's directory that this host's gateway serves from, in STATE/peers.sqlite.

What is written there was checked: others can write to a database, by other programs too. A peer
that breaks a rule is left out and named, and costs no other peer anything.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from fastun.config.ranges import KEEPALIVE_MAX_S
from fastun.errors import ConfigError, RuntimeFailure, quote
from fastun.peers.peer import Peer, check_together, is_name, one_host
from fastun.peers.rows import peers_of
from fastun.peers.terms import TO_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.peers.peer import Network, Server
    from fastun.peers.rows import Row
    from fastun.peers.store import PeerStore

#: More rows than a fleet has; each is some hundred bytes of this process's memory.
ROWS_MAX: Final = 500_000


class Sound(NamedTuple):
    """Peers of rows, by name; and why others were left out, by what names them."""

    peers: dict[str, Peer]
    left_out: dict[str, str]


class Copied:
    """One copy, of one process."""

    def __init__(self, store: PeerStore) -> None:
        """Begin with what is in `store`."""
        self._store = store
        self._peers = {peer.name: peer for peer in store.peers()}

    @property
    def n_peers(self) -> int:
        """How many it has."""
        return len(self._peers)

    def take(self, rows: list[Row]) -> tuple[bool, dict[str, str]]:
        """Have what these rows say: in one step, or, on an exception, nothing.

        Return whether that has changed anything, and which peers were left out. Raises
        RuntimeFailure.
        """
        if len(rows) > ROWS_MAX:
            raise RuntimeFailure(f"{len(rows)} rows of peers are too many; at most {ROWS_MAX}")
        found = sound(rows, self._store.server())
        changed = [peer for name, peer in found.peers.items() if self._peers.get(name) != peer]
        gone = self._peers.keys() - found.peers.keys()
        if changed or gone:
            self._store.copy(changed, gone)
            self._peers = found.peers
        return bool(changed or gone), found.left_out


def sound(rows: list[Row], server: Server | None) -> Sound:
    """Return the peers of these rows, in the order of names, that go together.

    Of two that do not, the first is in. Those of the gateway's own file are before all.
    """
    peers: dict[str, Peer] = {}
    left_out: dict[str, str] = {}
    taken = _Taken(server)
    for name, group in groupby(rows, key=lambda row: row[0]):
        try:
            (peer,) = peers_of([*group])
            _check_alone(peer)
            taken.add(peer)
        except ConfigError as error:
            left_out[_named(name)] = str(error)
        # A mistake in a row is one of many kinds, and none is worth another peer's session.
        except (ValueError, TypeError, AttributeError, RecursionError):
            left_out[_named(name)] = "its row cannot be read"
        else:
            peers[peer.name] = peer
    return Sound(peers, left_out)


def _named(name: object) -> str:
    return name if isinstance(name, str) and is_name(name) else quote(name)


def _check_alone(peer: Peer) -> None:
    """Raise ConfigError where a peer has what no command would have written."""
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


class _Taken:
    """What peers have that no other may have: check_together, one peer after the other."""

    def __init__(self, server: Server | None) -> None:
        own: Iterable[Network] = map(one_host, server.addresses) if server else ()
        self._prefixes: dict[Network, Peer | None] = dict.fromkeys(own)
        self._keys: dict[bytes, Peer] = {}
        self._names: dict[str, Peer] = {}
        self._own = server.addresses if server else ()
        for peer in server.peers if server else ():
            self.add(peer)

    def add(self, peer: Peer) -> None:
        """Raise ConfigError where another has what it has."""
        sharing = [self._keys.get(peer.public_key), self._names.get(peer.name)]
        sharing += [self._prefixes.get(prefix) for prefix in peer.allowed_ips]
        others = {each.name: each for each in sharing if each is not None}
        check_together([*others.values(), peer], self._own)
        self._names[peer.name] = self._keys[peer.public_key] = peer
        self._prefixes.update(dict.fromkeys(peer.allowed_ips, peer))
