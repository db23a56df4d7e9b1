"""A device that another program has made for us, and that stays when we are gone.

The journal then undoes what else goes with the device: addresses, routes, MTU, its place in a
bridge, and that it is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastun import log
from fastun.host import link_settings, link_state
from fastun.host.journal.changes import PreparedDevice
from fastun.host.link_state import UNCHANGED
from fastun.host.netlink.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Container

    from fastun.config.settings import Settings
    from fastun.host.journal.journal import Journal
    from fastun.peers.peer import Address


def record(journal: Journal, interface: str, settings: Settings) -> bool:
    """Have the journal restore it, where there is one; return whether there is.

    To be called before it is opened: with its carrier it would get an automatic address. Raises
    AskedToStop.
    """
    index = link_state.unused(interface)
    before = link_state.read(index) if index else None
    if before is None:
        return False
    ours = link_settings.of_settings(settings)
    if UNCHANGED in (ours.gen_mode, before.gen_mode):
        ours = msgspec.structs.replace(ours, gen_mode=before.gen_mode)
    with journal.changing(
        PreparedDevice(interface, index, before, ours, bool(settings.place.bridge))
    ):
        link_state.write(index, msgspec.structs.replace(before, gen_mode=ours.gen_mode))
    return True


def say_addresses(interface: str, index: int, configured: Container[Address]) -> None:
    """Warn about the addresses that it has beside the ``configured`` ones."""
    with Kernel(index) as kernel:
        found = [each.local for each in kernel.addresses() if each.index == index]
    theirs = [str(address) for address in found if address not in configured]
    if theirs:
        log.get("device").warning(
            "the interface has other addresses, which are kept; packets may be sent from them",
            interface=interface,
            addresses=" ".join(theirs),
        )
