"""The MTU of the paths to peers on UDP, so that no datagram is lost for its length.

The kernel learns it from its routes and from ICMP (too big); the link-writer reports a datagram
that the kernel refused for that. What does not fit inside is then refused at the device, with an
ICMP answer to its sender, or travels in fragments where there can be no such answer. A path may get
wider again, so a narrow one is looked at now and then.
"""

from __future__ import annotations

from fastun.channel import SetPathMtu
from fastun.config import Settings
from fastun.lane import Lane
from fastun.link import udp
from fastun.link.correspondent import Correspondent

# Outside a packet on UDP: the data message's header and tag, and UDP's; and the IP header's.
_DATA_MESSAGE_BYTES = 32
_UDP_BYTES = 8
_IP_BYTES = {4: 20, 6: 40}

# Inside in TAP mode: the message's type, and an Ethernet header with a VLAN tag.
_FRAME_BYTES = 4 + 18

# The least that any path takes (RFC 791 section 3.2: 576 to be received; RFC 8200 section 5).
_LEAST_MTU = 576

LOOK_INTERVAL_S = 10.0


class PathWatch:
    """Keeps the tun-reader's idea of each path in step with the kernel's."""

    def __init__(self, lane: Lane, settings: Settings) -> None:
        """Watch the paths of the peers of ``lane``."""
        self._lane = lane
        self._longest = settings.mtu + (_FRAME_BYTES if settings.mode == "tap" else 0)
        self._fwmark = settings.fwmark

    def watch(self, correspondent: Correspondent, now_s: float) -> None:
        """Look again where that is due."""
        if now_s - correspondent.path_seen_s >= LOOK_INTERVAL_S:
            self.measure(correspondent, now_s)

    def measure(self, correspondent: Correspondent, now_s: float) -> None:
        """Ask the kernel, and tell the tun-reader and the link what has changed."""
        address, link = correspondent.address, correspondent.link
        if address is None or link is None:
            return
        correspondent.path_seen_s = now_s
        try:
            outside = max(udp.path_mtu(address, self._fwmark), _LEAST_MTU)
        except OSError:  # no route at this moment
            return
        link.path_mtu = outside
        inside = outside - _IP_BYTES[address.host.version] - _UDP_BYTES - _DATA_MESSAGE_BYTES
        path_mtu = inside if inside < self._longest else 0
        if path_mtu != correspondent.path_mtu or link.is_new_path:
            correspondent.path_mtu = path_mtu
            link.is_new_path = False
            self._lane.send("tun-reader", SetPathMtu(correspondent.member.slot, path_mtu))
