"""Which Ethernet addresses are this host's own: the device's, and those of its bridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.host.bridge_mtu import Interface
from fastun.host.own_macs import OwnMacs, own_of

if TYPE_CHECKING:
    from collections.abc import Sequence

TAP, BRIDGE, LAN = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
ALONE = Interface(5, "ft0", 1500, 0, TAP)
PORT = Interface(5, "ft0", 1500, 9, TAP)
OTHERS = [Interface(9, "br0", 1500, 0, BRIDGE), Interface(2, "eth0", 1500, 9, LAN)]


def test_they_are_the_devices_and_its_bridges() -> None:
    assert own_of(5, [ALONE, *OTHERS]) == (TAP,)
    assert own_of(5, [PORT, *OTHERS]) == (TAP, BRIDGE)
    assert own_of(5, OTHERS) == ()
    assert own_of(5, [Interface(5, "ft0", 1500, 0, b"")]) == ()


def test_they_are_passed_on_when_they_change() -> None:
    given: list[Sequence[bytes]] = []
    own = OwnMacs(5, given.append)
    for found in ((TAP,), (TAP,), (TAP, BRIDGE), (TAP, BRIDGE), (TAP,)):
        own.take(found)
    assert given == [(TAP,), (TAP, BRIDGE), (TAP,)]
