"""What the settings want of the device, and what of it a tunnel cannot do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.errors import RuntimeFailure
from fastun.host.bridge import NOT_A_BRIDGE
from fastun.host.routing import outer_addresses
from fastun.host.wanted import Wanted

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.wanted import Applied


def of_settings(settings: Settings) -> Wanted:
    """Return what is configured; nothing is pushed yet."""
    routes = [network for peer in settings.peers for network in peer.allowed_ips]
    return Wanted(
        mtu=settings.mtu,
        addresses=settings.addresses,
        routes=() if settings.table == "off" else tuple(routes),
        outer=frozenset(outer_addresses.of_settings(settings)[0]),
        bridge=settings.place.bridge,
        forward=settings.forward,
        takes_all=settings.table == "all",
    )


def check_vital(applied: Applied, settings: Settings) -> None:
    """Raise RuntimeFailure where nothing could work without what was refused."""
    kinds = [refusal.kind for refusal in applied.refused]
    has_no_address = 0 < len(settings.addresses) <= kinds.count("address")
    for refusal in applied.refused:
        is_vital = refusal.kind in ("MTU", "link", "forwarding") or refusal.reason == NOT_A_BRIDGE
        if is_vital or (refusal.kind == "address" and has_no_address):
            alike = (refusal.kind, refusal.reason, refusal.advice)
            items = [
                each.item
                for each in applied.refused
                if (each.kind, each.reason, each.advice) == alike
            ]
            advice = f"; {refusal.advice}" if refusal.advice else ""
            said = f"{refusal.kind} {' '.join(items)}: {refusal.reason}{advice}"
            raise RuntimeFailure(said)
