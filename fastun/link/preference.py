"""UDP or TCP, where a server can be dialled by both: UDP while it works.

    start       a handshake on UDP; TCP is dialled as well when there is no session in time
    on UDP      what was sent goes unanswered: the path is doubted, and a handshake tries it. No
                answer to that either: TCP is dialled, and takes over
    on TCP      handshakes on UDP go on (the session's timers see to that); the first that succeeds
                takes over again

A session is never shared by two links, so nothing has to be kept in step: whichever handshake has
succeeded last is what is sent by, on both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastun.lane.session_lane import SessionLane
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.table import Link, LinkTable
from fastun.pace import PACE
from fastun.session import clock

LOOK_INTERVAL_S = 0.25

# Long enough for a handshake over any path worth having, short against a person's patience.
FIRST_ANSWER_S = 2.0

# TCP inside the tunnel has tried again by then at 0.2, 0.6 and 1.4 s; with the handshake's answer
# waited for, its next two tries (3 and 6 s) find the other link.
DOUBT_AFTER_S = 1.5
HANDSHAKE_ANSWER_S = 2.0

# Much is never answered: the last ACK, a stream of measurements. Each time that a handshake shows
# the path to be good, the next silence may last twice as long, until the peer says something; from
# 10 s on its keepalives do.
DOUBT_AFTER_MAX_S = 12.0

_NS_PER_S = 1e9


class Preference:
    """Decides for the one peer of a dialling side. ``wants_stream`` is set while TCP is wanted."""

    def __init__(
        self,
        lane: SessionLane,
        links: LinkTable,
        sessions: DatagramSessions,
        slot: int,
        *,
        latest: Callable[[int, str], int] | None = None,
    ) -> None:
        """Decide between ``sessions`` and streams; ``latest`` of several lanes: PeerTables'."""
        self.wants_stream = asyncio.Event()
        self.is_to_leave: Callable[[Link | None], bool] = lambda _: False
        self._leaves_since_s: float | None = None
        self._lane = lane
        self._silence, self._silence_of_all = _Silence(), _Silence()
        self._latest = latest
        self._links = links
        self._sessions = sessions
        self._slot = slot
        self._doubt_after_s = DOUBT_AFTER_S
        self._doubted_s: float | None = None
        self._n_received = 0

    async def run(self) -> None:
        """Look again and again."""
        self._sessions.begin(self._slot)
        since_s = clock.boottime_s()
        while True:
            await PACE.next_look(LOOK_INTERVAL_S)
            now_s = clock.boottime_s()
            if self._is_on_udp():
                self._look(now_s)
                continue
            self._doubt_after_s, self._doubted_s = DOUBT_AFTER_S, None
            if self._links.by_slot.get(self._slot) is not None:
                self.wants_stream.clear()  # one is enough: UDP may take over from it
                self._sessions.doubt(self._slot)  # a session may be left there, though no link
            elif now_s - since_s >= FIRST_ANSWER_S:
                self.wants_stream.set()

    def _is_on_udp(self) -> bool:
        link = self._links.by_slot.get(self._slot)
        return link is not None and link.transport == "udp"

    def _look(self, now_s: float) -> None:
        self._learn_patience()
        if self._leaves_in_vain(now_s):
            self.wants_stream.set()
            return
        unanswered_s = self._unanswered_s(now_s)
        if unanswered_s >= self._doubt_after_s + HANDSHAKE_ANSWER_S:
            self.wants_stream.set()
        else:
            self.wants_stream.clear()
        if unanswered_s >= self._doubt_after_s:
            self._doubted_s = self._doubted_s or now_s
            self._sessions.doubt(self._slot)

    def _leaves_in_vain(self, now_s: float) -> bool:
        """Return whether the gateway is to be left, and no other has answered on UDP so far."""
        link = self._links.by_slot.get(self._slot)
        if link is None or not self.is_to_leave(link):
            self._leaves_since_s = None
            return False
        if self._leaves_since_s is None:
            self._leaves_since_s = now_s
        return now_s - self._leaves_since_s >= HANDSHAKE_ANSWER_S

    def _learn_patience(self) -> None:
        n_received = self._lane.peers.read(self._slot, "receive_packets")
        if n_received != self._n_received:
            self._n_received = n_received
            self._doubt_after_s = DOUBT_AFTER_S
            self._doubted_s = None
        elif (
            self._doubted_s is not None
            and self._sessions.last_handshake_s(self._slot) > self._doubted_s
        ):
            self._doubt_after_s = min(2 * self._doubt_after_s, DOUBT_AFTER_MAX_S)
            self._doubted_s = None

    def _unanswered_s(self, now_s: float) -> float:
        """Return for how long the session, or all lanes together, got no answer."""
        handshake_s = self._sessions.last_handshake_s(self._slot)
        seconds = self._silence.seconds(self._times(self._lane.peers.read), handshake_s, now_s)
        if self._latest is None:
            return seconds
        of_all = self._silence_of_all.seconds(self._times(self._latest), handshake_s, now_s)
        return max(seconds, of_all)

    def _times(self, read: Callable[[int, str], int]) -> tuple[float, float]:
        """Return when the peer was sent data, and heard."""
        sent_ns, heard_ns = (read(self._slot, field) for field in ("sent_data_ns", "received_ns"))
        return sent_ns / _NS_PER_S, heard_ns / _NS_PER_S


class _Silence:
    """For how long the peer has said nothing to what was sent."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def seconds(self, times: tuple[float, float], handshake_s: float, now_s: float) -> float:
        sent_s, heard_s = times[0], max(times[1], handshake_s)
        if sent_s <= heard_s:
            self._since_s = None
        elif self._since_s is None or self._since_s < heard_s:
            self._since_s = now_s
        return 0.0 if self._since_s is None else now_s - self._since_s
