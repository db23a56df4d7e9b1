"""The peer directory in PostgreSQL: what `peer add` of any gateway of a fleet writes.

Tables are in the schema `fastun` (migrations/). A change is one transaction that begins by taking
an advisory lock, so what is decided by a look (which address is free) is decided while no other
gateway's command can change anything; the keys of the tables keep two peers apart whatever else
writes. Every change of peers is notified on the channel `fastun_peers`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from fastun.errors import ConfigError
from fastun.fleet import reads, schema
from fastun.fleet.connection import connect, explained
from fastun.peers.directory import Changes, PeerDirectory
from fastun.peers.peer import check_together
from fastun.peers.rows import ServerText, columns_of, endpoints_of, networks_of, peers_of
from fastun.session import tai64n

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Address, Network, Peer, Server
    from fastun.peers.terms import Usage

_PEERS: Final = (
    "SELECT name, public_key, preshared_key, endpoints, keepalive_s, terms, prefix::text"
    " FROM peer LEFT JOIN allowed_ip ON peer = name {} ORDER BY name, position, prefix"
)


class PostgresDirectory(PeerDirectory):
    """The directory of a fleet. Close it, or use it as a context manager."""

    notifies = True

    def __init__(self, url: str, near: PeerDirectory | None = None) -> None:
        """Connect. `near` knows the gateway of this host, and what its peers have used.

        Raises RuntimeFailure: it cannot be reached, or its tables are not those that we read.
        """
        self.url = url
        self._near = near
        self.connection = connect(url)
        with contextlib.ExitStack() as undo:
            undo.callback(self.connection.close)
            schema.check(self.connection, url)
            undo.pop_all()

    def __enter__(self) -> Self:
        """Return the directory itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let the connection go; what is unfinished did not happen."""
        self.connection.close()

    # -- the directory ------------------------------------------------------------------------

    @contextlib.contextmanager
    def changes(self) -> Iterator[None]:  # noqa: D102 (PeerDirectory has it, here and below)
        is_outermost = self._is_idle()
        with contextlib.ExitStack() as stack:
            with self._explained():
                stack.enter_context(self.connection.transaction())
                self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (schema.CHANGE_LOCK,))
            yield  # what fails in there is the caller's
            with explained(self.url, is_commit=is_outermost):
                stack.close()

    def version(self) -> int:  # noqa: D102
        return int(self._rows("SELECT version FROM state")[0][0])

    def changes_since(self, version: int) -> Changes | None:  # noqa: D102
        read = reads.since(self.connection, self.url, version)
        if read is None:
            return None
        with self._explained():
            peers = peers_of([row for rows in read.rows.values() for row in rows])
        gone = tuple(name for name, rows in read.rows.items() if not rows)
        return Changes(read.version, peers, gone)

    def n_peers(self) -> int:  # noqa: D102
        return int(self._rows("SELECT count(*) FROM peer")[0][0])

    def prefixes(self) -> list[Network]:  # noqa: D102
        with self._explained():
            return networks_of(self._rows("SELECT prefix::text FROM allowed_ip"))

    def peers(self) -> tuple[Peer, ...]:  # noqa: D102
        with self._explained():
            return peers_of(self._rows(_PEERS.format("")))

    def named(self, name: str) -> Peer | None:  # noqa: D102
        with self._explained():
            found = peers_of(self._rows(_PEERS.format("WHERE name = %s"), name))
            return next(iter(found), None)

    def add(self, peer: Peer) -> None:  # noqa: D102
        with self._changing():
            self._check_beside(peer, self._sharing_with(peer))
            self._do("INSERT INTO peer VALUES (%s, %s, %s, %s, %s, %s)", *columns_of(peer))
            self._insert_prefixes(peer)

    def replace(self, name: str, peer: Peer) -> None:  # noqa: D102
        with self._changing():
            before = self.get(name)
            self._check_beside(peer, [each for each in self._sharing_with(peer) if each != before])
            self._do("DELETE FROM allowed_ip WHERE peer = %s", name)
            self._do(
                "UPDATE peer SET name = %s, public_key = %s, preshared_key = %s, endpoints = %s,"
                " keepalive_s = %s, terms = %s WHERE name = %s",
                *columns_of(peer),
                name,
            )
            self._insert_prefixes(peer)

    def remove(self, name: str) -> Peer:  # noqa: D102
        with self._changing():
            peer = self.get(name)
            self._do("DELETE FROM peer WHERE name = %s", name)
        return peer

    def reset_timestamp(self, name: str) -> None:  # noqa: D102
        with self.changes():
            peer = self.get(name)
            self._do("SELECT pg_advisory_xact_lock(%s)", schema.PRESENCE_LOCK)
            self._do(
                "UPDATE presence SET initiated = %s, changed = nextval('presence_changed')"
                " WHERE public_key = %s",
                tai64n.NEVER,
                peer.public_key,
            )

    def _sharing_with(self, peer: Peer) -> list[Peer]:
        """Return the peers with its name, its key or one of its prefixes, without reading all."""
        found = self._rows(
            "SELECT name FROM peer WHERE name = %s OR public_key = %s"
            " UNION SELECT peer FROM allowed_ip WHERE prefix = ANY(%s::cidr[]) ORDER BY 1",
            peer.name,
            peer.public_key,
            [str(prefix) for prefix in peer.allowed_ips],
        )
        return [each for (name,) in found if (each := self.named(name))]

    def _check_beside(self, peer: Peer, others: Iterable[Peer]) -> None:
        server = self.server()
        known = (*server.peers, *others) if server else others
        check_together([*known, peer], self.own_addresses())

    def _insert_prefixes(self, peer: Peer) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO allowed_ip VALUES (%s, %s, %s)",
                [(str(prefix), peer.name, i) for i, prefix in enumerate(peer.allowed_ips)],
            )

    def usage(self) -> dict[str, Usage]:
        """Return what this host's gateway has counted: each counts for itself."""
        return self._near.usage() if self._near else {}

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """Keep it with the gateway of this host."""
        if self._near is not None:
            self._near.remember_usage(usage)

    # -- the gateways ---------------------------------------------------------------------------

    def server(self) -> Server | None:
        """Return the gateway of this host, else the one that was seen last."""
        near = self._near.server() if self._near else None
        if near is not None:
            return near
        rows = self._rows("SELECT server FROM gateway ORDER BY seen DESC LIMIT 1")
        with self._explained():
            return _server(rows[0][0]) if rows else None

    def own_addresses(self) -> tuple[Address, ...]:
        """Return those of all gateways."""
        found = super().own_addresses()
        with self._explained():
            texts = [text for (text,) in self._rows("SELECT server FROM gateway")]
            others = [address for text in texts for address in _server(text).addresses]
        return tuple(dict.fromkeys((*found, *others)))

    def announce(self, name: str, server: Server) -> None:
        """Have the commands of all gateways know of this one, and that it is there now."""
        self._do(
            "INSERT INTO gateway VALUES (%s, %s) ON CONFLICT (name)"
            " DO UPDATE SET server = EXCLUDED.server, seen = now()",
            name,
            msgspec.json.encode(ServerText.of(server)).decode(),
        )

    def server_key(self) -> bytes | None:  # noqa: D102
        text = self._fact("server_key")
        with self._explained():
            return None if text is None else bytes.fromhex(text)

    def remember_server_key(self, public_key: bytes) -> None:  # noqa: D102
        self._set_fact("server_key", public_key.hex())
        if self._near is not None:
            self._near.remember_server_key(public_key)

    def claim_key(self, public_key: bytes) -> None:
        """Record the key of a fleet that has none; ConfigError where it has another."""
        with self.changes():
            recorded = self.server_key()
            if not recorded:
                self.remember_server_key(public_key)
            elif recorded != public_key:
                raise ConfigError(
                    "private key: not that of the fleet, whose peers know another; give all"
                    " gateways one key, and another fleet a database of its own"
                )

    def public_endpoints(self) -> tuple[Endpoint, ...]:  # noqa: D102
        with self._explained():
            return endpoints_of(self._fact("public_endpoints") or "")

    def remember_public_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:  # noqa: D102
        self._set_fact("public_endpoints", " ".join(map(str, endpoints)))

    # -- the database -------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change in the caller's transaction, or in one of its own."""
        own = self.changes() if self._is_idle() else contextlib.nullcontext()
        with own, self._explained():
            yield

    def _is_idle(self) -> bool:
        from psycopg.pq import TransactionStatus  # noqa: PLC0415 (for a fleet alone)

        return self.connection.info.transaction_status == TransactionStatus.IDLE

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._explained():
            return self.connection.execute(statement, values or None).fetchall()

    def _do(self, statement: str, *values: object) -> None:
        with self._explained():
            self.connection.execute(statement, values or None)

    def _fact(self, name: str) -> str | None:
        rows = self._rows("SELECT value FROM fact WHERE name = %s", name)
        return rows[0][0] if rows else None

    def _set_fact(self, name: str, value: str) -> None:
        self._do(
            "INSERT INTO fact VALUES (%s, %s) ON CONFLICT (name)"
            " DO UPDATE SET value = EXCLUDED.value",
            name,
            value,
        )

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self.url)


def _server(text: str) -> Server:
    return msgspec.json.decode(text, type=ServerText).value()
