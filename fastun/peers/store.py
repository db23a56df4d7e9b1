"""The peer directory in SQLite, STATE/peers.sqlite: what `peer add` writes and `serve` reads.

    peer        name, public key, pre-shared key, endpoints, keepalive, terms (JSON)
    allowed_ip  prefix -> peer; the key of the table, so no two peers have one prefix
    usage       what a peer has used of its quota, in which month
    change      the version by which a peer was last changed; triggers write it
    fact        version (grows with every change of peers), server, server_key, public_endpoints;
                fleet, the URL of the directory that this is a copy of

Several processes use it at once: each change is one transaction, begun by taking SQLite's write
lock, and what is decided by a look (which address is free) is decided under that lock. The file
holds pre-shared keys, so it is made with mode 0600 and refused when others can read or replace it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import msgspec

from fastun.peers.directory import Changes, PeerDirectory
from fastun.peers.peer import check_together
from fastun.peers.rows import (
    ServerText,
    changes_of,
    columns_of,
    endpoints_of,
    networks_of,
    peers_of,
)
from fastun.peers.store_database import LOCK_TIMEOUT_S, StoreDatabase
from fastun.peers.store_file import FILE_NAME
from fastun.peers.terms import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Network, Peer, Server
    from fastun.peers.rows import Row

_PEERS: Final = (
    "SELECT name, public_key, preshared_key, endpoints, keepalive_s, terms, prefix"
    " FROM peer LEFT JOIN allowed_ip ON peer = name {} ORDER BY name, position"
)

# Changes of one moment, with the version: a peer of no row is gone.
_CHANGES: Final = (
    "SELECT value, change.peer, peer.name, public_key, preshared_key, endpoints, keepalive_s,"
    " terms, prefix FROM fact LEFT JOIN change ON change.version > ?"
    " LEFT JOIN peer ON peer.name = change.peer LEFT JOIN allowed_ip ON allowed_ip.peer = peer.name"
    " WHERE fact.name = 'version' ORDER BY change.peer, position"
)

# Changes of so many versions are kept. A gateway looks twice a second, and is never that late.
KEPT: Final = 1000

__all__ = ["FILE_NAME", "LOCK_TIMEOUT_S", "PeerStore"]


class PeerStore(StoreDatabase, PeerDirectory):
    """The directory in one file. Close it, or use it as a context manager."""

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # -- the directory ------------------------------------------------------------------------

    def version(self) -> int:  # noqa: D102
        with self._explained():
            return int(self._fact("version") or 0)

    def changes_since(self, version: int) -> Changes | None:  # noqa: D102
        with self._explained():
            rows = self._database.execute(_CHANGES, (version,)).fetchall()
            return changes_of(rows, version, KEPT)

    def n_peers(self) -> int:  # noqa: D102
        with self._explained():
            return int(self._database.execute("SELECT count(*) FROM peer").fetchone()[0])

    def prefixes(self) -> list[Network]:  # noqa: D102
        with self._explained():
            return networks_of(self._database.execute("SELECT prefix FROM allowed_ip").fetchall())

    def peers(self) -> tuple[Peer, ...]:  # noqa: D102
        with self._explained():
            # One statement is one look, whatever others write meanwhile.
            return peers_of(self._database.execute(_PEERS.format("")).fetchall())

    def named(self, name: str) -> Peer | None:  # noqa: D102
        with self._explained():
            return next(iter(peers_of(self.rows_of(name))), None)

    def add(self, peer: Peer) -> None:  # noqa: D102
        with self._changing():
            self._check_beside(peer, self._sharing_with(peer))
            self._forget_usage(peer.name)  # of one in the file that had the name
            self._database.execute("INSERT INTO peer VALUES (?, ?, ?, ?, ?, ?)", columns_of(peer))
            self._insert_prefixes(peer)
            self._grow_version()

    def replace(self, name: str, peer: Peer) -> None:  # noqa: D102
        with self._changing():
            before = self.get(name)
            others = [each for each in self._sharing_with(peer) if each != before]
            self._check_beside(peer, others)
            self._database.execute("DELETE FROM allowed_ip WHERE peer = ?", (name,))
            self._database.execute(
                "UPDATE peer SET name = ?, public_key = ?, preshared_key = ?, endpoints = ?,"
                " keepalive_s = ?, terms = ? WHERE name = ?",
                (*columns_of(peer), name),
            )
            if peer.name != name:
                self._forget_usage(peer.name)
                renamed = (peer.name, name)
                self._database.execute("UPDATE usage SET peer = ? WHERE peer = ?", renamed)
            self._insert_prefixes(peer)
            self._grow_version()

    def remove(self, name: str) -> Peer:  # noqa: D102
        with self._changing():
            peer = self.get(name)
            self._database.execute("DELETE FROM peer WHERE name = ?", (name,))
            self._forget_usage(name)
            self._grow_version()
        return peer

    def _sharing_with(self, peer: Peer) -> list[Peer]:
        return [each for name in sorted(self.names_sharing(peer)) if (each := self.named(name))]

    def _check_beside(self, peer: Peer, others: Iterable[Peer]) -> None:
        server = self.server()
        known = (*server.peers, *others) if server else others
        check_together([*known, peer], server.addresses if server else ())

    def _insert_prefixes(self, peer: Peer) -> None:
        self._database.executemany(
            "INSERT INTO allowed_ip VALUES (?, ?, ?)",
            [(str(prefix), peer.name, i) for i, prefix in enumerate(peer.allowed_ips)],
        )

    def usage(self) -> dict[str, Usage]:  # noqa: D102
        with self._explained():
            rows = self._database.execute("SELECT peer, month, n_bytes FROM usage").fetchall()
        return {name: Usage(month, n_bytes) for name, month, n_bytes in rows}

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:  # noqa: D102
        with self._changing():
            # Of a month that has ended nothing counts, and some were of peers in a file.
            oldest = min((used.month for used in usage.values()), default="")
            self._database.execute("DELETE FROM usage WHERE month < ?", (oldest,))
            self._database.executemany(
                "INSERT OR REPLACE INTO usage VALUES (?, ?, ?)",
                [(name, used.month, used.n_bytes) for name, used in usage.items()],
            )

    def _forget_usage(self, name: str) -> None:
        self._database.execute("DELETE FROM usage WHERE peer = ?", (name,))

    def server(self) -> Server | None:  # noqa: D102
        text = self._fact("server")
        if text is None:
            return None
        with self._explained():
            return msgspec.json.decode(text, type=ServerText).value()

    def remember_server(self, server: Server) -> None:
        """Keep what the gateway says of itself, for the commands that add peers."""
        with self._changing():
            self._set_fact("server", msgspec.json.encode(ServerText.of(server)).decode())
            self.remember_server_key(server.public_key)

    def server_key(self) -> bytes | None:  # noqa: D102
        text = self._fact("server_key")
        if text is None:  # an older version has served last
            server = self.server()
            return None if server is None else server.public_key
        with self._explained():
            return bytes.fromhex(text)

    def remember_server_key(self, public_key: bytes) -> None:  # noqa: D102
        self._set_fact("server_key", public_key.hex())

    # -- a copy of another directory (fastun.fleet.copied) --------------------------------------

    def original(self) -> str | None:
        """Return the URL of the directory that this is a copy of, None where it is its own."""
        return self._fact("fleet") or None

    def remember_original(self, url: str | None) -> None:
        """Be a copy of that one; None: be one's own again."""
        self._set_fact("fleet", url or "")

    def rows(self, after: str = "", upto: str | None = None) -> list[Row]:
        """Return the rows of the peers whose names are in that range, `upto` included, in order."""
        where = "WHERE name > ?" + ("" if upto is None else " AND name <= ?")
        with self._explained():
            values = (after,) if upto is None else (after, upto)
            return self._database.execute(_PEERS.format(where), values).fetchall()

    def rows_of(self, name: str) -> list[Row]:
        """Return the rows of the peer of that name, none where there is no such peer."""
        with self._explained():
            return self._database.execute(_PEERS.format("WHERE name = ?"), (name,)).fetchall()

    def names_sharing(self, peer: Peer) -> set[str]:
        """Return the peers with its name, its key or one of its prefixes, without reading all."""
        look = self._database.execute
        with self._explained():
            found = look(
                "SELECT name FROM peer WHERE name = ? OR public_key = ?",
                (peer.name, peer.public_key),
            ).fetchall()
            for prefix in peer.allowed_ips:
                found += look("SELECT peer FROM allowed_ip WHERE prefix = ?", (str(prefix),))
        return {name for (name,) in found}

    def copy(self, changed: Iterable[Peer], gone: Iterable[str]) -> None:
        """Have these as they are, which go together with the rest, and not those of these names."""
        now = [*changed]
        with self._changing():
            names = [(name,) for name in (*gone, *(peer.name for peer in now))]
            self._database.executemany("DELETE FROM peer WHERE name = ?", names)
            self._database.executemany(
                "INSERT INTO peer VALUES (?, ?, ?, ?, ?, ?)", map(columns_of, now)
            )
            for peer in now:
                self._insert_prefixes(peer)
            self._grow_version()

    def public_endpoints(self) -> tuple[Endpoint, ...]:  # noqa: D102
        with self._explained():
            return endpoints_of(self._fact("public_endpoints") or "")

    def remember_public_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:  # noqa: D102
        self._set_fact("public_endpoints", " ".join(map(str, endpoints)))

    def _grow_version(self) -> None:
        self._database.execute("UPDATE fact SET value = value + 1 WHERE name = 'version'")
        self._database.execute(
            "DELETE FROM change"
            " WHERE version <= (SELECT value FROM fact WHERE name = 'version') - ?",
            (KEPT,),
        )
