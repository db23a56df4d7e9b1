"""The peer directory in SQLite, STATE/peers.sqlite: what `peer add` writes and `serve` reads.

    peer        name, public key, pre-shared key, endpoints, keepalive, terms (JSON)
    allowed_ip  prefix -> peer; the key of the table, so no two peers have one prefix
    usage       what a peer has used of its quota, in which month
    fact        version (grows with every change of peers), server, server_key, public_endpoints;
                fleet, the URL of the directory that this is a copy of

Several processes use it at once: each change is one transaction, begun by taking SQLite's write
lock, and what is decided by a look (which address is free) is decided under that lock. The file
holds pre-shared keys, so it is made with mode 0600 and refused when others can read or replace it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final, Self

import msgspec

from fastun.errors import FastunError, RuntimeFailure
from fastun.peers import store_file
from fastun.peers.directory import PeerDirectory
from fastun.peers.peer import check_together
from fastun.peers.rows import ServerText, columns_of, endpoints_of, peers_of
from fastun.peers.store_file import DAMAGED, FILE_NAME
from fastun.peers.terms import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Peer, Server

# A change takes milliseconds; one that takes longer hangs.
LOCK_TIMEOUT_S: Final = 5.0

_PEERS: Final = (
    "SELECT name, public_key, preshared_key, endpoints, keepalive_s, terms, prefix"
    " FROM peer LEFT JOIN allowed_ip ON peer = name {} ORDER BY name, position"
)

__all__ = ["FILE_NAME", "LOCK_TIMEOUT_S", "PeerStore"]


class PeerStore(PeerDirectory):
    """The directory in one file. Close it, or use it as a context manager."""

    def __init__(self, state_dir: Path, *, any_thread: bool = False) -> None:
        """Open the file below `state_dir`, both made where they are missing.

        By `any_thread` it may be used, by one at a time, and else by this one.

        Raises ConfigError when others can read or replace the file, and RuntimeFailure when it
        cannot be used, is damaged or was written by a newer version.
        """
        self.path = state_dir / FILE_NAME
        with self._explained():
            store_file.make_private(self.path)
            self._database = store_file.connect(
                self.path, timeout_s=LOCK_TIMEOUT_S, any_thread=any_thread
            )
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def wait_at_most(self, seconds: float) -> None:
        """Let others' changes keep whoever calls from now on no longer than this."""
        with self._explained():
            self._database.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def close(self) -> None:
        """Let the file go; what is unfinished did not happen."""
        self._database.close()

    # -- the directory ------------------------------------------------------------------------

    @contextlib.contextmanager
    def changes(self) -> Iterator[None]:  # noqa: D102 (PeerDirectory has it, here and below)
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._explained():
                self._database.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, as of a full disk.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def version(self) -> int:  # noqa: D102
        with self._explained():
            return int(self._fact("version") or 0)

    def peers(self) -> tuple[Peer, ...]:  # noqa: D102
        with self._explained():
            # One statement is one look, whatever others write meanwhile.
            return peers_of(self._database.execute(_PEERS.format("")).fetchall())

    def named(self, name: str) -> Peer | None:  # noqa: D102
        with self._explained():
            rows = self._database.execute(_PEERS.format("WHERE name = ?"), (name,)).fetchall()
            return next(iter(peers_of(rows)), None)

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
        """Return the peers with its name, its key or one of its prefixes, without reading all."""
        look = self._database.execute
        prefixes = [(str(prefix),) for prefix in peer.allowed_ips]
        found = look(
            "SELECT name FROM peer WHERE name = ? OR public_key = ?", (peer.name, peer.public_key)
        ).fetchall()
        for prefix in prefixes:
            found += look("SELECT peer FROM allowed_ip WHERE prefix = ?", prefix).fetchall()
        return [each for (name,) in sorted({*found}) if (each := self.named(name))]

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

    # -- a copy of another directory (fastun.fleet) ---------------------------------------------

    def original(self) -> str | None:
        """Return the URL of the directory that this is a copy of, None where it is its own."""
        return self._fact("fleet") or None

    def remember_original(self, url: str | None) -> None:
        """Be a copy of that one; None: be one's own again."""
        self._set_fact("fleet", url or "")

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

    # -- the file -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.execute("PRAGMA secure_delete = ON")  # A removed peer's key goes with it.
        store_file.check_contents(self._database, self.path)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change in the caller's transaction, or in one of its own."""
        own = contextlib.nullcontext() if self._database.in_transaction else self.changes()
        with own, self._explained():
            yield

    def _grow_version(self) -> None:
        self._database.execute("UPDATE fact SET value = value + 1 WHERE name = 'version'")

    def _fact(self, name: str) -> str | None:
        with self._explained():
            row = self._database.execute(
                "SELECT value FROM fact WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else str(row[0])

    def _set_fact(self, name: str, value: str) -> None:
        with self._changing():
            self._database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite and the system say into one line; no value of a row is shown."""
        try:
            yield
        except FastunError:
            raise
        except sqlite3.Error as error:
            raise RuntimeFailure(f"{self.path}: {_explain(error)}") from None
        except OSError as error:
            raise RuntimeFailure(
                f"{self.path}: {error.strerror}; run as root, or choose another --state"
            ) from None
        # msgspec's errors are ValueErrors; SQLite asks for the memory that a damaged page names.
        except (ValueError, TypeError, IndexError, RecursionError, MemoryError):
            raise RuntimeFailure(f"{self.path}: {DAMAGED}") from None


def _explain(error: sqlite3.Error) -> str:
    # The low byte is the primary code (sqlite.org/rescode.html); errors of Python's have none.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "locked by another process for too long; try again"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DAMAGED
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return f"{error}; run as root, or choose another --state"
        case sqlite3.SQLITE_FULL:
            return "no space left on the disk; nothing was changed"
        case sqlite3.SQLITE_ERROR:  # A table or column that is not there.
            return DAMAGED
    return f"{error}; nothing was changed"
