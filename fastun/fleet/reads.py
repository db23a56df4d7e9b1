"""What is read of the peers in PostgreSQL, unchecked: what has changed, all, or a part of them.

Each is one statement, and so of one moment, with the version of that moment. Versions are in the
order of commits (migrations/0003_changes.sql): what is read at a version lacks nothing that was
changed by it or before, however long the transaction took that has changed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastun.errors import RuntimeFailure
from fastun.fleet import schema
from fastun.fleet.connection import explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from fastun.peers.rows import Row

#: Changes of so many versions are kept (note_changes, in the migrations).
KEPT: Final = 10_000

#: More rows than a fleet has; each is some hundred bytes of this process's memory.
ROWS_MAX: Final = 500_000

#: Of endpoints, and of terms: a longer text is not read, and its peer is left out.
TEXT_BYTES_MAX: Final = 16 << 10

# The versions of the tables and of the peers, the name of what is read, and its rows.
_READ: Final = (
    "SELECT tables, peers, {name}, each.name, public_key, preshared_key,"
    " CASE WHEN octet_length(endpoints) <= {text_max} THEN endpoints END, keepalive_s,"
    " CASE WHEN octet_length(terms) <= {text_max} THEN terms END, prefix::text"
    # Of one row, as the planner sees without statistics only from this.
    " FROM (SELECT (SELECT version FROM schema_version) AS tables,"
    " (SELECT version FROM state) AS peers) AS at {what}"
    " LEFT JOIN allowed_ip ON allowed_ip.peer = each.name ORDER BY 3, position, prefix LIMIT {most}"
)
_SINCE: Final = _READ.format(
    name="change.peer",
    what="LEFT JOIN change ON change.version > %s"
    " LEFT JOIN peer AS each ON each.name = change.peer",
    text_max=TEXT_BYTES_MAX,
    most=ROWS_MAX + 1,
)
_PART: Final = _READ.format(
    name="each.name",
    what="LEFT JOIN (SELECT * FROM peer WHERE name > %s ORDER BY name LIMIT %s) AS each ON true",
    text_max=TEXT_BYTES_MAX,
    most=ROWS_MAX + 1,
)


class Read(NamedTuple):
    """Rows by the names of peers, at a version; of a name without any there is no peer."""

    version: int
    rows: dict[str, list[Row]]


def since(connection: psycopg.Connection[Any], url: str, version: int) -> Read | None:
    """Return what has changed since that version; None where that was too long ago.

    Raises RuntimeFailure, as the others.
    """
    read = _read(connection, url, _SINCE, (version,))
    return read if version >= 0 and read.version - KEPT <= version <= read.version else None


def everything(connection: psycopg.Connection[Any], url: str) -> Read:
    """Return all."""
    return part(connection, url, "", ROWS_MAX + 1)


def part(connection: psycopg.Connection[Any], url: str, after: str, n: int) -> Read:
    """Return ``n`` peers, or all that are left, with names behind ``after``."""
    return _read(connection, url, _PART, (after, n))


def _read(
    connection: psycopg.Connection[Any], url: str, statement: str, values: Sequence[object]
) -> Read:
    with explained(url):
        rows = connection.execute(statement, values).fetchall()
        schema.check_version(rows[0][0] or 0, url)
        if len(rows) > ROWS_MAX:
            raise RuntimeFailure(f"more than {ROWS_MAX} rows of peers are too many")
        found: dict[str, list[Row]] = {}
        for _, _, name, *row in rows:
            if name is not None:
                of_name = found.setdefault(name, [])
                if row[0] is not None:
                    of_name.append(tuple(row))
        return Read(int(rows[0][1]), found)
