"""The tables of a fleet's directory: made and brought up to date by `fastun fleet prepare` alone.

Numbered files in migrations/, each of which makes of one version the next. No gateway changes them
by itself: while a fleet is updated, one gateway after another, the old ones go on.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastun.errors import RuntimeFailure
from fastun.fleet.connection import connect, explained, shown

if TYPE_CHECKING:
    import psycopg

_MIGRATIONS: Final = Path(__file__).with_name("migrations")

#: Advisory locks, for changes of peers and of tables: eight bytes of a name, so no other program's.
CHANGE_LOCK: Final = int.from_bytes(b"fastunPC", "big")

CHANNEL: Final = "fastun_peers"
PRESENCE_LOCK: Final = int.from_bytes(b"fastunPW", "big")
_TABLES_LOCK: Final = int.from_bytes(b"fastunPT", "big")


def steps() -> list[Path]:
    """Return the files, each of which makes of a version the next."""
    return sorted(_MIGRATIONS.glob("*.sql"))


@functools.cache
def version_here() -> int:
    """Return the version that this fastun reads."""
    return len(steps())


def check(connection: psycopg.Connection[Any], url: str) -> None:
    """Raise RuntimeFailure where the tables are missing, or of another version."""
    with explained(url):
        row = connection.execute("SELECT version FROM fastun.schema_version").fetchone()
    check_version(row[0] if row else 0, url)


def check_version(found: int, url: str) -> None:
    """Raise RuntimeFailure where that is not the version that this fastun reads."""
    if found != (here := version_here()):
        newer = found > here
        fix = (
            "update fastun on this host"
            if newer
            else "run 'fastun fleet prepare URL', once all gateways have this fastun"
        )
        raise RuntimeFailure(
            f"{shown(url)}: its tables are of version {found}, and this fastun reads {here}; {fix}"
        )


def _check_is_ours(connection: psycopg.Connection[Any], url: str) -> None:
    row = connection.execute(
        "SELECT bool_or(relname = 'schema_version'), count(*) FROM pg_class"
        " WHERE relnamespace = 'fastun'::regnamespace"
    ).fetchone()
    if row is not None and row[1] and not row[0]:
        raise RuntimeFailure(
            f"{shown(url)}: its schema fastun has tables that are not fastun's; use another"
            " database"
        )


def prepare(url: str) -> tuple[int, int]:
    """Make the tables, or bring them up to date; return the version before and now.

    In one transaction; two at once wait for each other. Raises RuntimeFailure.
    """
    with connect(url) as connection, explained(url), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TABLES_LOCK,))
        connection.execute("CREATE SCHEMA IF NOT EXISTS fastun")
        _check_is_ours(connection, url)
        connection.execute("SET LOCAL search_path = fastun")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL,"
            " is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only))"
        )
        row = connection.execute("SELECT version FROM schema_version").fetchone()
        before, files = row[0] if row else 0, steps()
        if before > len(files):
            raise RuntimeFailure(
                f"{shown(url)}: its tables are of version {before}, and this fastun reads"
                f" {len(files)}; update fastun on this host"
            )
        for step in files[before:]:
            connection.execute(step.read_bytes())
        connection.execute(
            "INSERT INTO schema_version VALUES (%s) ON CONFLICT (is_only)"
            " DO UPDATE SET version = EXCLUDED.version",
            (len(files),),
        )
        if before != len(files):  # all gateways are to see it
            connection.execute("UPDATE state SET version = version + 1")
            connection.execute(f"NOTIFY {CHANNEL}")
    return before, len(files)
