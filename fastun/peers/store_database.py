"""The database of the peer store: one connection to its file, transactions, and facts by name.

What SQLite and the system say becomes one line, in which no value of a row is shown.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

from fastun.errors import FastunError, RuntimeFailure
from fastun.peers import store_file
from fastun.peers.store_file import DAMAGED, FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A change takes milliseconds; one that takes longer hangs.
LOCK_TIMEOUT_S: Final = 5.0


class StoreDatabase:
    """What PeerStore is built on. Close it."""

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

    def wait_at_most(self, seconds: float) -> None:
        """Let others' changes keep whoever calls from now on no longer than this."""
        with self._explained():
            self._database.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def close(self) -> None:
        """Let the file go; what is unfinished did not happen."""
        self._database.close()

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

    def _prepare(self) -> None:
        self._database.execute("PRAGMA foreign_keys = ON")
        # The journal stays, empty: the process of a fleet may write to it, and make none.
        self._database.execute("PRAGMA journal_mode = TRUNCATE")
        self._database.execute("PRAGMA temp_store = MEMORY")
        self._database.execute("PRAGMA secure_delete = ON")  # A removed peer's key goes with it.
        store_file.check_contents(self._database, self.path)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change in the caller's transaction, or in one of its own."""
        own = contextlib.nullcontext() if self._database.in_transaction else self.changes()
        with own, self._explained():
            yield

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
