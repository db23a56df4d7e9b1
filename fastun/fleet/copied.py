"""The copy of a fleet's directory that this host's gateway serves from, in STATE/peers.sqlite.

What is written there was checked (sound.py), in one step or, on an exception, not at all. Of the
directory's peers only those are read, checked and written whose rows are others than in the copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.errors import ConfigError
from fastun.fleet.sound import Taken, peer_of, sound
from fastun.peers.peer import Peer, one_host
from fastun.peers.rows import by_name, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastun.peers.peer import Server
    from fastun.peers.rows import Row
    from fastun.peers.store import PeerStore


class Apart(Exception):  # noqa: N818 (what to do, and no fault)
    """Two peers of the directory do not go together: which one is in, only all rows tell."""


class Copied:
    """One copy, of one process."""

    def __init__(self, store: PeerStore) -> None:
        """Begin with what is in `store`."""
        self._store = store
        self._beside = Taken(None)  # what the gateway itself has
        self._is_apart = False
        self.left_out: dict[str, str] = {}  # why, by name
        self.n_peers = store.n_peers()

    def take(self, rows: Mapping[str, list[Row]]) -> bool:
        """Have what these rows say of these names, of which one without rows is gone.

        Return whether that has changed anything. Raises RuntimeFailure, and Apart.
        """
        return self._change(
            {
                name: of_name
                for name, of_name in rows.items()
                if name in self.left_out or self._store.rows_of(name) != of_name
            }
        )

    def take_part(self, rows: Mapping[str, list[Row]], after: str, upto: str | None) -> bool:
        """Have what these rows say: all whose names are behind `after`, and not behind `upto`.

        As `take`.
        """
        names = self._differing(rows, after, upto)
        return self._change({name: rows.get(name, []) for name in names})

    def take_everything(self, rows: Mapping[str, list[Row]], server: Server | None) -> bool:
        """Have what these rows say, and nothing else, beside what the gateway itself has.

        Return whether that has changed anything. Raises RuntimeFailure.
        """
        self._beside, self._is_apart = Taken(server), False
        names = self._differing(rows, "", None) | self._sharing_with(server)
        try:
            return self._change({name: rows.get(name, []) for name in names})
        except Apart:
            self._is_apart = True
        found = sound(rows, server)
        here = by_name(self._store.rows())
        peers = [peer for name, peer in found.peers.items() if here.get(name) != rows_of(peer)]
        is_changed = self._write(peers, [*(here.keys() - found.peers.keys())])
        self.left_out = found.left_out
        return is_changed

    def _differing(self, rows: Mapping[str, list[Row]], after: str, upto: str | None) -> set[str]:
        here = by_name(self._store.rows(after, upto))
        found = {name for name in rows.keys() | here.keys() if rows.get(name) != here.get(name)}
        left_out = (name for name in self.left_out if after < name)
        return found.union(name for name in left_out if upto is None or name <= upto)

    def _sharing_with(self, server: Server | None) -> set[str]:
        """Return the peers of the copy that have something of the gateway's own."""
        if server is None:
            return set()
        own = Peer(name="", public_key=b"", allowed_ips=tuple(map(one_host, server.addresses)))
        return set().union(*map(self._store.names_sharing, (own, *server.peers)))

    def _change(self, rows: Mapping[str, list[Row]]) -> bool:
        if rows and self._is_apart:
            raise Apart
        peers, left_out = self._sound(rows)
        self._check_together(peers, rows.keys())
        changed = [each for each in peers if self._store.rows_of(each.name) != rows_of(each)]
        names = {each.name for each in peers}
        gone = [name for name in rows if name not in names and self._store.rows_of(name)]
        is_changed = self._write(changed, gone)
        self.left_out = left_out
        return is_changed

    def _sound(self, rows: Mapping[str, list[Row]]) -> tuple[list[Peer], dict[str, str]]:
        """Return the peers that are right by themselves and beside the gateway's own."""
        peers = []
        left_out = {name: why for name, why in self.left_out.items() if name not in rows}
        for name, of_name in rows.items():
            if not of_name:
                continue
            try:
                peer = peer_of(of_name)
                self._beside.check(peer)
            except ConfigError as error:
                left_out[name] = str(error)
            else:
                peers.append(peer)
        return peers, left_out

    def _check_together(self, peers: Iterable[Peer], names: Iterable[str]) -> None:
        """Raise Apart where they, which replace those of these names, share anything."""
        taken, replaced = Taken(None), {*names}
        for peer in peers:
            try:
                taken.add(peer)
            except ConfigError:
                raise Apart from None
            if self._store.names_sharing(peer) - replaced:
                raise Apart

    def _write(self, changed: list[Peer], gone: list[str]) -> bool:
        if changed or gone:
            self._store.copy(changed, gone)
            self.n_peers = self._store.n_peers()
        return bool(changed or gone)
