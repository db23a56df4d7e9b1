"""Looks at the directory, which keep the copy in step with it: each reads what it has to.

    look          the rows that have changed since the last one; all, where that was too long ago
    look_at_part  the next part of all, and then from the beginning again

What no trigger has noted (they can be turned off, and a table restored) only a part finds. It is
compared with the copy at the version that both are of: else the one or the other is older.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.fleet import reads
from fastun.fleet.copied import Apart, Copied

if TYPE_CHECKING:
    from fastun.fleet.postgres import PostgresDirectory
    from fastun.peers.peer import Server
    from fastun.peers.store import PeerStore

#: Peers that are read at once: some ten milliseconds of this process.
PART_PEERS: Final = 1000


class Looks:
    """Those of one gateway."""

    def __init__(self, store: PeerStore) -> None:
        """Begin with the copy in ``store``."""
        self.copied = Copied(store)
        self._server: Server | None = None
        self._version = -1  # of the directory, that the copy is in step with
        self._after = ""  # the last peer of the last part

    def begin(self, server: Server | None) -> None:
        """Have the next look read all: the connection is another, or the gateway's own is."""
        self._server, self._version, self._after = server, -1, ""

    def look(self, directory: PostgresDirectory) -> bool:
        """Return whether the copy has other peers than before. Raises RuntimeFailure."""
        connection, url = directory.connection, directory.url
        is_changed = False
        read = reads.since(connection, url, self._version) if self._version >= 0 else None
        if read is not None:
            try:
                is_changed = self.copied.take(read.rows)
            except Apart:
                read = None
        if read is None:
            read = reads.everything(connection, url)
            is_changed = self.copied.take_everything(read.rows, self._server)
        self._version = read.version
        return is_changed

    def look_at_part(self, directory: PostgresDirectory) -> bool:
        """As `look`."""
        read = reads.part(directory.connection, directory.url, self._after, PART_PEERS)
        if read.version != self._version:
            return self.look(directory)  # and at the same part the next time
        upto = max(read.rows) if len(read.rows) == PART_PEERS else None
        try:
            is_changed = self.copied.take_part(read.rows, self._after, upto)
        except Apart:
            self._version = -1
            return self.look(directory)
        self._after = upto or ""
        return is_changed
