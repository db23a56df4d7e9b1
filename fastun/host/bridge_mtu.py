"""A TAP device in a bridge: whether frames of the bridge's other ports fit it.

A bridge drops a frame that is longer than the MTU of the port that it would leave by, without an
ICMP answer, a log line, or a counter that anyone reads (net/bridge/br_forward.c,
is_skb_forwardable). So connections inside come up, and then hang at their first full frames.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

import msgspec

from fastun import log
from fastun.host.netlink.netlink import Netlink
from fastun.host.netlink.rtnetlink import attributes_of, number
from fastun.pace import PACE

LOOK_INTERVAL_S: Final = 5.0

# linux/rtnetlink.h, linux/if_link.h
_RTM_GETLINK, _IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 18, 1, 3, 4, 10
_IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change

_SAID_MAX: Final = 4


class Interface(msgspec.Struct, frozen=True):
    """An interface; ``master`` is the index of the bridge that it is a port of, or 0."""

    index: int
    name: str
    mtu: int
    master: int
    address: bytes = b""  # of Ethernet

    def __str__(self) -> str:
        """Return its name and MTU."""
        return f"{self.name} ({self.mtu})"


class Mismatch(msgspec.Struct, frozen=True):
    """A bridge port of ours, and those of the same bridge that have a larger MTU."""

    ours: Interface
    bridge: str
    larger: tuple[Interface, ...]


class BridgeMtu:
    """Looks for it, and says so when it begins, changes and ends. Event loop only."""

    def __init__(self, index: int) -> None:
        """Watch the interface with this index."""
        self._index = index
        self._said: Mismatch | None = None
        self._log = log.get("device")

    async def run(self) -> None:
        """Look at intervals, for ever."""
        while True:
            try:
                self.say(await asyncio.to_thread(find, self._index))
            except OSError as error:
                self._log.debug("cannot read the interfaces", error=error.strerror)
            await PACE.next_look(LOOK_INTERVAL_S)

    def say(self, found: Mismatch | None) -> None:
        """Log what is found, if it is not what was found last."""
        if found == self._said:
            return
        self._said = found
        if found is None:
            self._log.info("frames of all ports of the bridge fit the TAP device now")
            return
        ports = " ".join(map(str, found.larger[:_SAID_MAX]))
        most = max(port.mtu for port in found.larger)
        self._log.warning(
            "the bridge drops frames for the TAP device that are longer than its MTU, without a "
            f"word to their senders; start both ends with --mtu {most}, or lower the MTU of the "
            "other ports and of the hosts behind them",
            interface=found.ours.name,
            mtu=found.ours.mtu,
            bridge=found.bridge,
            larger=ports,
        )


def find(index: int) -> Mismatch | None:
    """Return what is wrong in the bridge that the interface is a port of, if anything. OSError."""
    return mismatch_of(index, interfaces())


def mismatch_of(index: int, all_interfaces: list[Interface]) -> Mismatch | None:
    """Return what is wrong among these."""
    by_index = {each.index: each for each in all_interfaces}
    ours = by_index.get(index)
    if ours is None or ours.master not in by_index:
        return None
    ports = [each for each in all_interfaces if each.master == ours.master]
    larger = tuple(each for each in ports if each.mtu > ours.mtu)
    return Mismatch(ours, by_index[ours.master].name, larger) if larger else None


def interfaces() -> list[Interface]:
    """Return all of this network namespace. Raises OSError."""
    with Netlink() as netlink:
        return [_interface(body) for body in netlink.dump(_RTM_GETLINK, bytes(_IFINFO.size))]


def _interface(body: bytes) -> Interface:
    _, _, index, _, _ = _IFINFO.unpack_from(body)
    said = dict(attributes_of(body[_IFINFO.size :]))
    name = said.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mtu, master = (number(said.get(kind, b"")) for kind in (_IFLA_MTU, _IFLA_MASTER))
    return Interface(index, name, mtu, master, said.get(_IFLA_ADDRESS, b""))
