"""What a device has in nftables: the tables of its features, followed and repaired together.

strong_host     packets for its addresses that come by other interfaces
forwarding      what this host forwards from and to it, with the settings that go with that
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from fastun.host.firewall.forwarding import Forwarding
from fastun.host.firewall.own_tables import Tables
from fastun.host.firewall.strong_host import StrongHost

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.journal.journal import Journal
    from fastun.host.wanted import Applied, Wanted


class PacketFilter:
    """Of one device. Blocks: not on the event loop's thread; one thread at a time."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        """Prepare; `follow` makes the tables, and the journal's end removes those that go."""
        self.tables = Tables(journal)
        self.forwarding = Forwarding(settings.interface, self.tables, journal)
        self._strong_host = StrongHost(settings.interface, settings.place.strong_host, self.tables)

    def moved(self, index: int) -> None:
        """Follow the device to where it has this index."""
        self._strong_host.index = index

    def follow(self) -> None:
        """Update the tables to the device's current name, addresses and routes.

        What fails is a warning. Raises AskedToStop, and OSError where the device is gone.
        """
        self._strong_host.follow()

    def forward(self, wanted: Wanted, applied: Applied, index: int) -> Applied:
        """Forward what is ``wanted``; return what was ``applied`` with what became of that."""
        refused, made = self.forwarding.follow(wanted.forward, index)
        return structs.replace(
            applied, refused=(*applied.refused, *refused), made=(*applied.made, *made)
        )
