"""The file of the peer store: made whole with mode 0600, and refused where it is not ours or empty.

A new file gets its tables under another name and is then linked to its own, so a file by that name
is complete from its first moment. One that is empty or has no tables has therefore lost its peers,
or is another program's: to take it for a directory without peers would lock out every client.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from typing import TYPE_CHECKING, Final

from fastun import private_file, state_file
from fastun.errors import ConfigError, RuntimeFailure, quote

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "peers.sqlite"

# What SQLite puts beside the file while it is changed.
SUFFIXES: Final = ("-journal", "-wal", "-shm")

DAMAGED: Final = "damaged; restore it from a backup, or move it away and add the peers again"

# What notes of each row in a statement that a peer has changed, by the version that follows.
_NOTE: Final = (
    "CREATE TRIGGER {table}_{when}_{row} AFTER {when} ON {table} BEGIN"
    " INSERT OR REPLACE INTO change SELECT {row}.{column}, value + 1 FROM fact"
    " WHERE fact.name = 'version'; END"
)


def _noting(table: str, column: str) -> list[str]:
    events = (("INSERT", "NEW"), ("UPDATE", "OLD"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
    return [_NOTE.format(table=table, column=column, when=when, row=row) for when, row in events]


# What makes of each format the next one, from an empty file on; its number is PRAGMA user_version,
# and a higher one is a newer fastun's.
_STEPS: Final = (
    (
        """CREATE TABLE peer (
            name TEXT PRIMARY KEY,
            public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
            preshared_key BLOB CHECK (length(preshared_key) = 32),
            endpoints TEXT NOT NULL,
            keepalive_s INTEGER NOT NULL
        ) STRICT""",
        """CREATE TABLE allowed_ip (
            prefix TEXT PRIMARY KEY,
            peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
            position INTEGER NOT NULL
        ) STRICT""",
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT",
        "INSERT INTO fact VALUES ('version', 0)",
    ),
    (
        "ALTER TABLE peer ADD COLUMN terms TEXT NOT NULL DEFAULT '{}'",
        """CREATE TABLE usage (
            peer TEXT PRIMARY KEY,
            month TEXT NOT NULL,
            n_bytes INTEGER NOT NULL
        ) STRICT""",
    ),
    (
        # The version by which a peer was last changed, there still or not.
        "CREATE TABLE change (peer TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
        "CREATE INDEX change_by_version ON change (version)",
        *_noting("peer", "name"),
        *_noting("allowed_ip", "peer"),
    ),
)
SCHEMA_VERSION: Final = len(_STEPS)


def make_private(path: Path) -> None:
    """Make the file if it is missing; raise ConfigError if it is there and not ours alone.

    Raises OSError and sqlite3.Error as well.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # another start was first, and that is as good
            _make(path)
    # By its path: to open and close a file drops the locks that SQLite holds on it in this process
    # (fcntl(2), advisory record locking).
    status = path.stat()
    name = f"peer directory {quote(str(path))}"
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{name}: not a file; choose another --state")
    private_file.check(path, status, name)
    # SQLite takes these for its own: a journal that another has put there would be played back.
    for suffix in SUFFIXES:
        beside = path.with_name(f"{path.name}{suffix}")
        if beside.is_file():
            private_file.check(beside, beside.stat(), quote(str(beside)))
    if status.st_size == 0:
        raise RuntimeFailure(
            f"{path}: empty, so its peers are lost; restore it from a backup, or remove it to"
            " start without peers"
        )


def connect(path: Path, *, timeout_s: float, any_thread: bool) -> sqlite3.Connection:
    """Open the file, which is there: `make_private`.

    Never makes another one: root may work in the directory of a service, which could have put a
    link there meanwhile, to where only root can make files.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=not any_thread,
    )


def _make(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        _upgrade(database)
        content = database.serialize()
    state_file.make(path, content)


def check_contents(database: sqlite3.Connection, path: Path) -> None:
    """Bring a file of an older version up to date.

    Raises RuntimeFailure where it is damaged, of a newer version, or not a peer directory.
    """
    found = _format(database)
    if found > SCHEMA_VERSION:
        raise RuntimeFailure(
            f"{path}: written by a newer fastun (format {found}, this one reads"
            f" {SCHEMA_VERSION}); update fastun on this host"
        )
    if found < 1:
        raise RuntimeFailure(
            f"{path}: not a peer directory; restore it from a backup, or move it away to start"
            " without peers"
        )
    # A page that is lost is found only by what reads it, which may be a change much later.
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise RuntimeFailure(f"{path}: {DAMAGED}")
    if found < SCHEMA_VERSION:
        _upgrade(database)


def _format(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(database: sqlite3.Connection) -> None:
    """Upgrade in one transaction; another process may have been faster."""
    database.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[_format(database) :]:
            for statement in step:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
