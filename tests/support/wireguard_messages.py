"""WireGuard's messages on a host's wire, counted by the kernel by type and direction.

A message's type is the first byte of its datagram (whitepaper section 5.4); mac2 are the last 16
bytes of types 1 and 2, zero without a cookie. What the kernel joins or cuts (GRO, GSO) counts once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastun.lab.host import Host

TYPES = range(1, 6)
_UDP_HEADER_BITS = 64
_MAC2_BITS = _UDP_HEADER_BITS + 132 * 8  # of an initiation
_HOOKS = {"came": ("input", "iifname"), "went": ("output", "oifname")}


class MessageCounters:
    """Counts what comes and goes by one device of `host`, from now on."""

    def __init__(self, host: Host, device: str) -> None:
        self._host = host
        lines = ["table inet wireguard {"]
        for direction, (hook, which) in _HOOKS.items():
            names = [*map(str, TYPES), "others", "with_cookie"]
            lines += [f"counter {direction}_{name} {{}}" for name in names]
            mine = f'{which} "{device}" meta l4proto udp'
            first = f"@th,{_UDP_HEADER_BITS},8"
            lines += [
                f"chain {direction} {{ type filter hook {hook} priority 0;",
                f"{mine} {first} 1 @th,{_MAC2_BITS},128 != 0 counter name {direction}_with_cookie",
                *(f"{mine} {first} {n} counter name {direction}_{n} accept" for n in TYPES),
                f"{mine} counter name {direction}_others",
                "}",
            ]
        host.run("nft", "\n".join([*lines, "}"]))

    def came(self, *types: int) -> int:
        return sum(self._read(f"came_{number}") for number in types)

    def went(self, *types: int) -> int:
        return sum(self._read(f"went_{number}") for number in types)

    def came_others(self) -> int:
        """Return how many datagrams came that begin like no message."""
        return self._read("came_others")

    def went_with_cookie(self) -> int:
        """Return how many initiations went out with a mac2."""
        return self._read("went_with_cookie")

    def came_with_cookie(self) -> int:
        return self._read("came_with_cookie")

    def _read(self, name: str) -> int:
        listed = self._host.run("nft", "-j", "list", "counter", "inet", "wireguard", name).stdout
        objects = json.loads(listed)["nftables"]
        return next(int(each["counter"]["packets"]) for each in objects if "counter" in each)
