"""The MTU of the paths to peers on UDP, so that no datagram is lost for its length.

The kernel learns it from its routes and from ICMP (too big); the link-writer reports a datagram
that the kernel refused for that. Where ICMP gets lost, probes to the peer tell (probe.py); the
less of both counts. What does not fit inside is then refused at the device, with an
ICMP answer to its sender, or travels in fragments where there can be no such answer. A path may get
wider again, so a narrow one is looked at now and then.
"""

from __future__ import annotations

from fastun import log
from fastun.channel import SendMessage, SetPathMtu
from fastun.config.settings import Settings
from fastun.lane import Lane
from fastun.link import probe, udp
from fastun.link.correspondent import Correspondent
from fastun.link.probe import Probe

# Outside a packet on UDP: the data message's header and tag, and UDP's; and the IP header's.
_DATA_MESSAGE_BYTES = 32
_UDP_BYTES = 8
_IP_BYTES = {4: 20, 6: 40}

# Inside in TAP mode: the message's type, and an Ethernet header with a VLAN tag.
_FRAME_BYTES = 4 + 18

# The least that any path takes (RFC 791 section 3.2: 576 to be received; RFC 8200 section 5).
_LEAST_MTU = 576

LOOK_INTERVAL_S = 10.0

# Each datagram that does not fit is reported, and each look takes a socket.
NARROW_INTERVAL_S = 1.0


class PathWatch:
    """Keeps the tun-reader's idea of each path in step with the kernel's and the peers' answers."""

    def __init__(self, lane: Lane, settings: Settings) -> None:
        """Watch the paths of the peers of ``lane``."""
        self._lane = lane
        self._frame_bytes = _FRAME_BYTES if settings.mode == "tap" else 0
        self._longest = settings.mtu + self._frame_bytes
        self._fwmark = settings.fwmark
        self._log = log.get("session")

    def follow_mtu(self, mtu: int) -> None:
        """Let ``mtu`` be the device's, in bytes; the paths are to be measured again."""
        self._longest = mtu + self._frame_bytes

    def on_too_narrow(self, correspondent: Correspondent, now_s: float) -> None:
        """Measure the path, which a datagram did not fit, unless that was done just now."""
        if now_s - correspondent.narrow_seen_s >= NARROW_INTERVAL_S:
            correspondent.narrow_seen_s = now_s
            self.measure(correspondent, now_s)

    def watch(self, correspondent: Correspondent, now_s: float) -> None:
        """Look again, and ask the peer, where that is due."""
        has_moved = correspondent.address != correspondent.path_address
        if has_moved or now_s - correspondent.path_seen_s >= LOOK_INTERVAL_S:
            self.measure(correspondent, now_s)
        self._ask(correspondent, now_s)

    def measure(self, correspondent: Correspondent, now_s: float) -> None:
        """Ask the kernel, and tell the tun-reader and the link what has changed."""
        address, link = correspondent.address, correspondent.link
        if address is None or link is None:
            return
        correspondent.path_seen_s, correspondent.path_address = now_s, address
        try:
            outside = max(udp.path_mtu(address, self._fwmark), _LEAST_MTU)
        except OSError:  # no route at this moment
            return
        header_bytes = _header_bytes(correspondent)
        longest = self._longest + _DATA_MESSAGE_BYTES + header_bytes
        search = correspondent.path_search
        search.follow(address, min(outside, longest, probe.LONGEST))
        outside = min(outside, search.limit or outside)
        link.path_mtu = outside
        # Also where all that the device has fits: nothing is padded beyond it, and the device may
        # be given a longer MTU at any moment.
        path_mtu = min(outside - header_bytes - _DATA_MESSAGE_BYTES, self._longest)
        if path_mtu != correspondent.path_mtu or link.is_new_path:
            correspondent.path_mtu = path_mtu
            link.is_new_path = False
            self._lane.send("tun-reader", SetPathMtu(correspondent.member.slot, path_mtu))

    # -- probes -------------------------------------------------------------------------------

    def hear(self, correspondent: Correspondent, message: bytes, now_s: float) -> bool:
        """Take a control message of the peer's, if it is a probe or the answer to one."""
        heard = probe.decode(message)
        if heard is None:
            return False
        if isinstance(heard, Probe):
            self._say(correspondent, probe.answer(heard))
            return True
        before = correspondent.path_search.limit
        size = heard.probed + _header_bytes(correspondent)
        correspondent.path_search.on_answer(size, now_s)
        self._conclude(correspondent, before, now_s)
        self._ask(correspondent, now_s)
        return True

    def _ask(self, correspondent: Correspondent, now_s: float) -> None:
        """Send the probe that is due to a peer that has said that it answers."""
        theirs, search = correspondent.hello.theirs, correspondent.path_search
        if theirs is None or not theirs.answers_probes:
            return
        before = search.limit
        size = search.due(now_s)
        self._conclude(correspondent, before, now_s)
        if size:
            content = probe.question(size - _header_bytes(correspondent))
            if self._say(correspondent, content):
                search.on_asked(now_s)

    def _say(self, correspondent: Correspondent, content: bytes) -> bool:
        """Send a control message; False when the session has no counter left for it."""
        message = correspondent.seal_control(content)
        if message is not None:
            self._lane.send("link-writer", SendMessage(correspondent.member.slot, message))
        return message is not None

    def _conclude(self, correspondent: Correspondent, before: int, now_s: float) -> None:
        limit = correspondent.path_search.limit
        if limit != before:
            self.measure(correspondent, now_s)
            name = correspondent.member.peer.name
            if limit:
                self._log.warning("longer datagrams get lost on the path", peer=name, mtu=limit)
            else:
                self._log.info("the path takes all datagrams again", peer=name)


def _header_bytes(correspondent: Correspondent) -> int:
    """Return what IP and UDP put in front of a datagram to the peer."""
    address = correspondent.address
    return 0 if address is None else _IP_BYTES[address.host.version] + _UDP_BYTES
