"""Where each peer of a fleet is: what this gateway claims, and what others have.

A gateway claims a peer by the timestamp (TAI64N) of the initiation whose session the peer has
confirmed. A peer's timestamps only increase, so of two claims the later one is right, whichever is
written first; a replayed initiation is never confirmed and claims nothing. The same timestamp is
the mark up to which every other gateway refuses the peer's initiations.

A client's clock may be years ahead. So that its mark does not keep it out for years once the clock
is right, a mark is at most AHEAD_S ahead of the database's clock, which is one for all gateways:
of two marks that were cut short the later written is the later. So which claim is right, only the
directory knows; a gateway hears which claim of its own is beaten. A mark of NEVER takes back all
that gateways remember (`fastun peer set --reset-timestamp`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.fleet import schema
from fastun.fleet.connection import explained
from fastun.fleet.messages import PEERS_MAX, Elsewhere, Place
from fastun.session import tai64n

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.fleet.messages import Claims
    from fastun.fleet.postgres import PostgresDirectory

AHEAD_S: Final = 600

_CLAIM: Final = """
    INSERT INTO presence AS was (public_key, gateway, initiated, changed)
    VALUES (%s, %s, %s, nextval('presence_changed'))
    ON CONFLICT (public_key) DO UPDATE SET
        gateway = EXCLUDED.gateway, initiated = EXCLUDED.initiated, changed = EXCLUDED.changed,
        since = CASE WHEN was.gateway = EXCLUDED.gateway THEN was.since ELSE now() END
    WHERE was.initiated < EXCLUDED.initiated
        OR (was.initiated = EXCLUDED.initiated AND was.gateway IS NULL)"""

_LEAVE: Final = """
    UPDATE presence SET gateway = NULL, since = now(), changed = nextval('presence_changed')
    WHERE public_key = %s AND gateway = %s"""

_LEAVE_OTHERS: Final = """
    UPDATE presence SET gateway = NULL, since = now(), changed = nextval('presence_changed')
    WHERE gateway = %s AND public_key <> ALL (%s)"""

_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_CHANGES: Final = """
    SELECT public_key, gateway, initiated, changed FROM presence
    WHERE changed > %s ORDER BY changed"""


class Presence:
    """Of one gateway. One thread."""

    def __init__(self, name: str) -> None:
        """Be the gateway of that name, without a peer."""
        self._name = name
        self._here: dict[bytes, bytes] = {}  # a peer's timestamp, by its key
        self._unsaid: dict[bytes, bytes | None] = {}  # what the directory has not got; None: left
        self._is_new = True  # the directory may have what this gateway had before
        self._seen = 0  # changes up to this one were read

    @property
    def has_news(self) -> bool:
        """Whether the directory does not know all."""
        return bool(self._unsaid) or self._is_new

    def claim(self, claims: Claims) -> None:
        """Have what the gateway says."""
        for place in claims.here:
            self._here[place.public_key] = self._unsaid[place.public_key] = place.initiated
        for key in claims.gone:
            self._here.pop(key, None)
            self._unsaid[key] = None

    def begin(self) -> None:
        """Say and read everything again: the connection is another."""
        self._unsaid = {**dict.fromkeys(self._unsaid), **self._here}
        self._is_new = True
        self._seen = 0

    def write(self, directory: PostgresDirectory) -> None:
        """Write what the directory has not got, in one step. Raises RuntimeFailure."""
        here = [(key, stamp) for key, stamp in self._unsaid.items() if stamp is not None]
        gone = [(key, self._name) for key, stamp in self._unsaid.items() if stamp is None]
        with explained(directory.url), directory.connection.transaction():
            database = directory.connection
            database.execute("SELECT pg_advisory_xact_lock(%s)", (schema.PRESENCE_LOCK,))
            ((now_us,),) = database.execute(_NOW).fetchall()
            latest = tai64n.from_unix_ns(now_us * 1000 + AHEAD_S * 10**9)
            with database.cursor() as cursor:
                if self._is_new:
                    cursor.execute(_LEAVE_OTHERS, (self._name, list(self._here)))
                cursor.executemany(_LEAVE, gone)
                cursor.executemany(
                    _CLAIM, [(key, self._name, min(stamp, latest)) for key, stamp in here]
                )
        self._is_new = False
        self._unsaid.clear()

    def read(self, directory: PostgresDirectory) -> Iterator[Elsewhere]:
        """Yield what others have written since the last time. Raises RuntimeFailure."""
        with explained(directory.url):
            rows = directory.connection.execute(_CHANGES, (self._seen,)).fetchall()
        places = []
        for key, gateway, initiated, changed in rows:
            self._seen = changed
            if gateway != self._name or initiated == tai64n.NEVER:
                is_there = gateway not in (None, self._name)
                is_lost = is_there and key not in self._unsaid  # all that we claimed was written
                over = self._here.get(key, tai64n.NEVER) if is_lost else tai64n.NEVER
                place = Place(public_key=key, initiated=initiated, is_there=is_there, over=over)
                places.append(place)
        for start in range(0, len(places), PEERS_MAX):
            yield Elsewhere(peers=tuple(places[start : start + PEERS_MAX]))
