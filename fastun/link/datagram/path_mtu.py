"""The MTU of the paths to peers on UDP, so that no datagram is lost for its length.

    this host's device and route    local_mtu.py   decide at once
    probes that the peer answers    probe.py       decide when a search has ended
    ICMP, genuine or forged         hints.py       starts a search, and decides nothing

The smaller of the first two counts. A packet that does not fit is refused at the device with an
ICMP answer to its sender, or is sent in fragments if such an answer is not possible. A path MTU may
rise again, so a lowered one is probed at intervals. A peer that does not answer probes (plain
WireGuard) cannot be measured: there a hint that quotes a message which we have just sent is
followed, for a limited time and not below a floor (hinted.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from fastun import log
from fastun.config.settings import Settings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.lane.messages import SendMessage, SetPacketMax
from fastun.lane.session_lane import SessionLane
from fastun.link.datagram import probe
from fastun.link.datagram.hinted import HintedLimit
from fastun.link.datagram.hints import Hint
from fastun.link.datagram.local_mtu import local_mtu
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.probe import Probe
from fastun.link.datagram.sockets import cached_path_mtu
from fastun.link.table import Link
from fastun.native import DATA_BYTES_MIN, Joins
from fastun.session import clock

# Outside the data message on UDP: UDP's header, and IP's.
_UDP_BYTES = 8
_IP_BYTES = {4: 20, 6: 40}

# Inside in TAP mode: the message's type, and an Ethernet header with a VLAN tag.
_TYPE_BYTES = 4
_FRAME_BYTES = _TYPE_BYTES + 18

# The least that any path takes (RFC 791 section 3.2: 576 to be received; RFC 8200 section 5).
_LEAST_MTU = 576
_LEAST_MTU_IPV6 = 1280

# Changes of routes and links are seen sooner; this is for changes without a notification.
LOOK_INTERVAL_S = 10.0

# Each datagram that does not fit is reported, and each look takes a socket.
NARROW_INTERVAL_S = 1.0

# The event loop's clock is not ours; a question before its time would be put off by a tick.
_CLOCKS_DIFFER_S = 0.001

# What may come of a hint, in the order of /metrics; and why a path has become narrower.
HINT_RESULTS = ("followed", "searched", "ignored")
NARROWING_CAUSES = ("route", "probes", "hint")


class PathCounts:
    """What happened to paths since the start."""

    def __init__(self) -> None:
        """Count from 0."""
        self.hints: Counter[str] = Counter()
        self.narrowings: Counter[str] = Counter()


class PathWatch:
    """Keeps the tun-reader's path MTUs up to date."""

    def __init__(
        self,
        lane: SessionLane,
        settings: Settings,
        inner_mtu: InnerMtu,
        call_later: Callable[..., object] | None = None,
        sockets: SocketMaker = OWN,
    ) -> None:
        """Watch the paths of the peers of ``lane``. ``call_later`` is the event loop's."""
        self._sockets = sockets
        self.counts = PathCounts()
        self.hears_hints = True
        self._lane = lane
        self._frame_bytes = _FRAME_BYTES if settings.mode == "tap" else 0
        self._inner_mtu = inner_mtu
        self._fwmark = settings.fwmark
        self._call_later = call_later
        self._log = log.get("session")

    @property
    def _longest(self) -> int:
        """The length of what the device can give, in bytes."""
        return self._inner_mtu.bytes + self._frame_bytes

    def on_too_narrow(self, udp_peer: UdpPeer, now_s: float) -> None:
        """Measure the path, unless that was done just now: this host refused to send a datagram.

        Where that was for no MTU that we know of (an IPsec policy, a tunnel below), probes tell.
        """
        if now_s - udp_peer.path.narrow_seen_s < NARROW_INTERVAL_S:
            return
        udp_peer.path.narrow_seen_s = now_s
        before = udp_peer.path.packet_max
        self.measure(udp_peer, now_s)
        if udp_peer.path.packet_max == before:
            udp_peer.path.search.on_hint(0, now_s, is_verified=False)

    def watch(self, udp_peer: UdpPeer, now_s: float, *, is_due: bool = False) -> None:
        """Look again, and ask the peer, where that is due."""
        udp_peer.path.recent.note(udp_peer.next_counter(), now_s)
        has_moved = udp_peer.address != udp_peer.path.address
        if udp_peer.path.hinted.expire(now_s):
            self._log.info("trying the full path MTU", peer=udp_peer.slotted.peer.name)
            is_due = True
        if is_due or has_moved or now_s - udp_peer.path.seen_s >= LOOK_INTERVAL_S:
            self.measure(udp_peer, now_s)
        self._ask(udp_peer, now_s)

    def measure(self, udp_peer: UdpPeer, now_s: float) -> None:
        """Read the MTU of our device and route, and update the tun-reader and the link."""
        address, link = udp_peer.address, udp_peer.link
        if address is None or link is None:
            return
        if address != udp_peer.path.address:
            udp_peer.path.hinted = HintedLimit()
            link.path_mtu = 0  # of another path
        udp_peer.path.seen_s, udp_peer.path.address = now_s, address
        try:
            local = max(local_mtu(address, self._fwmark), _LEAST_MTU)
        except OSError:  # no route at this moment
            return
        header_bytes = _header_bytes(udp_peer)
        longest = self._longest + DATA_BYTES_MIN + header_bytes
        search, hinted = udp_peer.path.search, udp_peer.path.hinted
        search.follow(address, min(local, longest, probe.LONGEST))
        outside, cause = min(
            (local, "route"),
            (search.limit or local, "probes"),
            (hinted.size or local, "hint"),
            key=lambda pair: pair[0],
        )
        if not self.hears_hints:
            self._take_cached(udp_peer, outside, now_s)
        self._note_change(udp_peer, link.path_mtu, outside, cause)
        link.path_mtu = outside
        # Also where all that the device has fits: nothing is padded beyond it, and the device may
        # be given a longer MTU at any moment.
        packet_max = min(outside - header_bytes - DATA_BYTES_MIN, self._longest)
        whole = max(hinted.whole - header_bytes - DATA_BYTES_MIN, 1) if hinted.whole else 0
        path, joins = udp_peer.path, udp_peer.hello.joins_pieces
        if joins is not None and self._frame_bytes:
            self._say_fragments(udp_peer, packet_max, joins=Joins.FRAMES in Joins(joins))
        # A new session has not said it again yet.
        limits = (packet_max, whole, path.joins_pieces if joins is None else joins)
        if limits != (path.packet_max, path.whole_max, path.joins_pieces) or link.is_new_path:
            path.packet_max, path.whole_max, path.joins_pieces = limits
            link.is_new_path = False
            self._lane.send("tun-reader", SetPacketMax(udp_peer.slotted.slot, *limits))

    def _say_fragments(self, udp_peer: UdpPeer, packet_max: int, *, joins: bool) -> None:
        """Warn, once for each limit, that long frames go to the peer as IP fragments."""
        if joins or packet_max >= self._longest or packet_max == udp_peer.path.fragments_said:
            return
        udp_peer.path.fragments_said = packet_max
        self._log.warning(
            "frames that are too long for the path go to the peer as IP fragments, which many "
            "networks drop: its version of fastun joins no pieces of frames; update it, or start "
            f"both ends with --mtu {packet_max - self._frame_bytes}",
            peer=udp_peer.slotted.peer.name,
            longest=packet_max - _TYPE_BYTES,
        )

    def _note_change(self, udp_peer: UdpPeer, before: int, after: int, cause: str) -> None:
        name = udp_peer.slotted.peer.name
        if 0 < after < before:
            self.counts.narrowings[cause] += 1
            if after != udp_peer.path.hinted.said:
                self._log.warning(
                    "path MTU lowered", peer=name, before=before, mtu=after, cause=cause
                )
            if cause == "hint":
                udp_peer.path.hinted.said = after
        elif 0 < before < after and not udp_peer.path.hinted.said:
            self._log.info("path MTU raised", peer=name, before=before, mtu=after)

    # -- hints --------------------------------------------------------------------------------

    def on_hint(self, udp_peer: UdpPeer, hint: Hint, now_s: float) -> None:
        """Process an ICMP message, true or forged, about the path to the peer."""
        is_verified = self._is_verified(udp_peer, hint)
        if is_verified and (not udp_peer.hello.answers_probes or hint.mtu >= probe.LONGEST):
            result = "followed" if self._follow(udp_peer, hint, now_s) else "ignored"
        elif udp_peer.hello.answers_probes:
            is_begun = udp_peer.path.search.on_hint(
                _plausible(hint), now_s, is_verified=is_verified
            )
            result = "searched" if is_begun else "ignored"
            if is_begun:
                self._ask(udp_peer, now_s)
        else:
            result = "ignored"
        self.counts.hints[result] += 1
        if result != "ignored":  # strangers can send any number of those
            self._log.debug(
                "ICMP: packet too big",
                peer=udp_peer.slotted.peer.name,
                mtu=hint.mtu,
                verified=is_verified,
                result=result,
            )

    def _is_verified(self, udp_peer: UdpPeer, hint: Hint) -> bool:
        """Return whether it quotes a message that we sent in this session, some seconds ago."""
        keys, counter = udp_peer.current, hint.counter
        if keys is None or counter is None or hint.index != keys.remote_index:
            return False
        return udp_peer.path.recent.has(counter, udp_peer.next_counter())

    def _follow(self, udp_peer: UdpPeer, hint: Hint, now_s: float) -> bool:
        is_ipv6 = hint.host.version == 6  # noqa: PLR2004
        if is_ipv6 and hint.mtu < _LEAST_MTU_IPV6:
            return False
        link = udp_peer.link
        if link is None or (hint.mtu >= link.path_mtu > 0):
            return False
        if not udp_peer.path.hinted.on_hint(hint.mtu, now_s):
            return False
        self.measure(udp_peer, now_s)
        return True

    def _take_cached(self, udp_peer: UdpPeer, outside: int, now_s: float) -> None:
        """Use the kernel's PMTU cache as a hint: without raw sockets there is no other."""
        address = udp_peer.address
        if address is None or not udp_peer.hello.answers_probes:
            return
        try:
            cached = cached_path_mtu(address, self._sockets)
        except OSError:
            return
        if cached < outside:
            udp_peer.path.search.on_hint(cached, now_s, is_verified=False)

    # -- probes -------------------------------------------------------------------------------

    def receive(self, udp_peer: UdpPeer, message: bytes, now_s: float) -> bool:
        """Take a control message of the peer's, if it is a probe or the answer to one."""
        heard = probe.decode(message)
        if heard is None:
            return False
        if isinstance(heard, Probe):
            self._send(udp_peer, probe.answer(heard))
            return True
        before = udp_peer.path.search.limit
        size = heard.probed + _header_bytes(udp_peer)
        udp_peer.path.search.on_answer(size, now_s)
        self._conclude(udp_peer, before, now_s)
        self._ask(udp_peer, now_s)
        return True

    def _ask(self, udp_peer: UdpPeer, now_s: float) -> None:
        """Send the probe that is due to a peer that has said that it answers."""
        if not udp_peer.hello.answers_probes:
            return
        search = udp_peer.path.search
        before = search.limit
        size = search.due(now_s)
        self._conclude(udp_peer, before, now_s)
        if size and self._question(udp_peer, size):
            if search.companion:  # behind it, so that its answer comes later
                self._question(udp_peer, search.companion)
            search.on_asked(now_s)
            wait_s = search.wait_s(now_s)
            if wait_s is not None:
                self._ask_again(udp_peer, wait_s)

    def _ask_again(self, udp_peer: UdpPeer, wait_s: float) -> None:
        """Go on with a quick search before the next tick."""
        call_later = self._call_later or asyncio.get_running_loop().call_later
        call_later(wait_s + _CLOCKS_DIFFER_S, self._go_on, udp_peer, udp_peer.link)

    def _go_on(self, udp_peer: UdpPeer, link: Link | None) -> None:
        if link is not None and link is udp_peer.link and not link.ended.is_set():
            self._ask(udp_peer, clock.boottime_s())

    def ask_for_life(self, udp_peer: UdpPeer) -> None:
        """Send the shortest question, whose answer says that the peer is there."""
        self._send(udp_peer, probe.question(probe.SHORTEST))

    def _question(self, udp_peer: UdpPeer, size: int) -> bool:
        return self._send(udp_peer, probe.question(size - _header_bytes(udp_peer)))

    def _send(self, udp_peer: UdpPeer, content: bytes) -> bool:
        """Send a control message; False when the session has no counter left for it."""
        message = udp_peer.seal_control(content)
        if message is not None:
            self._lane.send("link-writer", SendMessage(udp_peer.slotted.slot, message))
        return message is not None

    def _conclude(self, udp_peer: UdpPeer, before: int, now_s: float) -> None:
        if udp_peer.path.search.limit != before:
            self.measure(udp_peer, now_s)


def _plausible(hint: Hint) -> int:
    """Return the size to begin a search with; 0 if too small for any IPv6 path."""
    return 0 if hint.host.version == 6 and hint.mtu < _LEAST_MTU_IPV6 else hint.mtu  # noqa: PLR2004


def _header_bytes(udp_peer: UdpPeer) -> int:
    """Return what IP and UDP put in front of a datagram to the peer."""
    address = udp_peer.address
    return 0 if address is None else _IP_BYTES[address.host.version] + _UDP_BYTES
