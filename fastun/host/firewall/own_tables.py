"""The nftables tables of one device: made when they are other than before, compared, removed.

have(Table) ---> checked, put in place, recorded in the journal unless it stays
|--- read back at once: later nft must list the same
changed() <--------'      but for counts and handles
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun import ending
from fastun.host.firewall import nft
from fastun.host.journal.changes import NftTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.host.firewall.nft import Table
    from fastun.host.journal.journal import Journal


class Tables:
    """The tables of one device, as the journal undoes them. Blocks, one thread at a time."""

    def __init__(self, journal: Journal) -> None:
        """Prepare; ``journal`` removes at the end what does not stay."""
        self._journal = journal
        self._made: dict[str, tuple[Table, str]] = {}  # each with what nft listed of it

    def have(self, table: Table) -> bool:
        """Put a table in place of the one of its name; return whether it was another one.

        Raises NftRefused, and AskedToStop.
        """
        made = self._made.get(table.name)
        if made is not None and made[0] == table:
            return False
        nft.check(table)
        change = NftTable(table.name, table.interface)
        if table.stays:
            ending.check()
            nft.put(table)
            self._journal.strike(change)
        else:
            with self._journal.changing(change):
                nft.put(table)
        self._made[table.name] = table, nft.listed(table.name)
        return True

    def remove(self, name: str) -> None:
        """Remove a table, if it is there. Raises NftRefused."""
        made = self._made.get(name)
        nft.remove(name)
        self._made.pop(name, None)
        if made is not None:
            self._journal.strike(NftTable(name, made[0].interface))

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are there now, as far as we know."""
        return tuple(self._made)

    def changed(self) -> tuple[str, ...]:
        """Return the names of those that other programs have removed or changed."""
        try:
            return tuple(name for name, (_, was) in self._made.items() if nft.listed(name) != was)
        except ending.AskedToStop:  # it cuts programs short
            return ()

    def forget(self, names: Iterable[str]) -> None:
        """Have `have` make these again, whatever is there."""
        for name in names:
            self._made.pop(name, None)
