"""One further lane of a peer on UDP, a *way*: its own session, and whether frames go by it.

    dialling side   a way is proven by an answer to an empty message of ours, and carries then.
                    While it does, an empty message asks when something was sent and nothing heard
                    for ASK_AFTER_S, and every ASK_EVERY_S in any case: NATs on the way keep it. No
                    answer for UNANSWERED_S: it rests, and is asked until it answers
    serving side    what came and got no answer by data gets an empty one. It carries when it was
                    proven, and rests when nothing was heard for UNHEARD_S

A way that rests keeps key, link and socket: what had been sealed goes out, and what comes is taken.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from fastun.link.datagram.peer import OpenedKeys, UdpPeer
from fastun.native import RECEIVING_KEYS, Aead, Joins, UdpAddress
from fastun.session import transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.lane.lane import Lane
    from fastun.lane.session_lane import SessionTable
    from fastun.link.link import Link
    from fastun.native import SendingCounter
    from fastun.session.transport import SessionKeys

ASK_AFTER_S: Final = 1.0
ASK_EVERY_S: Final = 3.0
UNANSWERED_S: Final = 4.0

#: A NAT forgets a mapping after 30 s at the earliest, without a word.
SILENT_S: Final = 15.0

#: A dialling side that uses a way sends by it every ASK_EVERY_S at least: two in a row are lost,
#: or all are, as where it is broken in that direction only, which the dialling side cannot see.
UNHEARD_S: Final = 8.0

#: A way that is wanted and not proven for so long gets another source port: what a NAT has
#: mapped the one to may lead nowhere, as long as something is sent (port_change.py).
OTHER_PORT_AFTER_S: Final = 15.0
OTHER_PORT_EVERY_S: Final = 90.0

# A lane is worth its while from so many packets a second for each that carries: some 60 Mbit/s, a
# tenth of what one does. What has opened them may go down to a fifth of the first step.
OPENED_AT_PER_S: Final = 5_000
KEPT_FROM_PER_S: Final = 1_000
KEPT_S: Final = 15.0

_NS_PER_S: Final = 1e9


class Traffic(NamedTuple):
    """What a lane's workers have written of a peer; times are CLOCK_BOOTTIME, 0: never."""

    sent_s: float
    sent_data_s: float
    heard_s: float
    heard_data_s: float

    @classmethod
    def of(cls, table: SessionTable, slot: int) -> Traffic:
        """Read it."""
        fields = ("sent_ns", "sent_data_ns", "received_ns", "received_data_ns")
        return cls(*(table.read(slot, field) / _NS_PER_S for field in fields))


class Step(Enum):
    """What is to be done now."""

    ASK = "send an empty message"
    REST = "have nothing go by it"
    CARRY = "have frames go by it"


class WayLife(msgspec.Struct):
    """Whether a way is proven. Times are CLOCK_BOOTTIME."""

    is_carrying: bool = False
    asked_s: float = float("-inf")
    rested_s: float = float("-inf")
    unanswered_since_s: float | None = None
    wanted_since_s: float | None = None  # without being proven
    port_changed_s: float = float("-inf")

    def wants_other_port(self, now_s: float, *, is_wanted: bool) -> bool:
        """Return whether the dialling side should try another port now, and note that it does."""
        if self.is_carrying or not is_wanted:
            self.wanted_since_s = None
            return False
        if self.wanted_since_s is None:
            self.wanted_since_s = now_s
        is_due = now_s - self.wanted_since_s >= OTHER_PORT_AFTER_S
        if not is_due or now_s - self.port_changed_s < OTHER_PORT_EVERY_S:
            return False
        self.port_changed_s = now_s
        return True

    def begin(self) -> None:
        """Note that it is proven."""
        self.is_carrying, self.unanswered_since_s = True, None

    def rest(self, now_s: float) -> None:
        """Note that nothing goes by it until it is proven again."""
        self.is_carrying, self.rested_s = False, now_s

    def steps(
        self, now_s: float, traffic: Traffic, *, dials: bool, is_wanted: bool
    ) -> tuple[Step, ...]:
        """Return what is to be done at this look.

        ``dials``: this is the dialling side; ``is_wanted``: it may carry, and there is load for it.
        """
        if not dials:
            return self._serving(now_s, traffic, is_wanted=is_wanted)
        step = self._dialling(now_s, traffic, is_wanted=is_wanted)
        return () if step is None else (step,)

    def _dialling(self, now_s: float, traffic: Traffic, *, is_wanted: bool) -> Step | None:
        if not is_wanted:
            return Step.REST if self.is_carrying else None
        if not self.is_carrying:
            if self.asked_s > self.rested_s and traffic.heard_s > self.asked_s:
                return Step.CARRY
            return self._ask(now_s) if now_s - self.asked_s >= ASK_EVERY_S else None
        unanswered_s = self._unanswered_s(now_s, traffic)
        if unanswered_s >= UNANSWERED_S or now_s - traffic.heard_s >= SILENT_S:
            return Step.REST
        is_due = now_s - min(traffic.heard_s, traffic.sent_s) >= ASK_EVERY_S
        return self._ask(now_s) if is_due or unanswered_s >= ASK_AFTER_S else None

    def _serving(self, now_s: float, traffic: Traffic, *, is_wanted: bool) -> tuple[Step, ...]:
        may_carry = is_wanted and now_s - traffic.heard_s < UNHEARD_S
        change = Step.CARRY if may_carry else Step.REST
        changes = (change,) if may_carry != self.is_carrying else ()
        return (*changes, Step.ASK) if traffic.heard_s > traffic.sent_s else changes

    def _ask(self, now_s: float) -> Step:
        self.asked_s = now_s
        return Step.ASK

    def _unanswered_s(self, now_s: float, traffic: Traffic) -> float:
        """Return for how long there has been data that nothing was heard after."""
        if traffic.sent_data_s <= traffic.heard_s:
            self.unanswered_since_s = None
        elif self.unanswered_since_s is None or self.unanswered_since_s < traffic.heard_s:
            self.unanswered_since_s = now_s
        return 0.0 if self.unanswered_since_s is None else now_s - self.unanswered_since_s


class Load(msgspec.Struct):
    """How many lanes a peer's traffic is worth: one more at a time, and all but one go together."""

    n_lanes: int = 1
    _n_packets: int = 0
    _seen_s: float = float("-inf")
    _busy_s: float = float("-inf")

    def look(self, n_packets: int, now_s: float, n_max: int, is_worth: Callable[[], bool]) -> int:
        """Return for how many there is load; ``n_packets`` of the peer have passed so far.

        ``is_worth``: whether this host has a core for one more (lane/opening.py).
        """
        per_s = (n_packets - self._n_packets) / (now_s - self._seen_s)
        self._n_packets, self._seen_s = n_packets, now_s
        is_load = per_s >= OPENED_AT_PER_S * self.n_lanes
        if is_load and self.n_lanes < n_max and is_worth():
            self.n_lanes += 1
        if per_s >= KEPT_FROM_PER_S:
            self._busy_s = now_s
        elif now_s - self._busy_s >= KEPT_S:
            self.n_lanes = 1
        self.n_lanes = min(self.n_lanes, n_max)
        return self.n_lanes


class WayKeys(msgspec.Struct):
    """The keys of one session in one lane, and where their counters are drawn."""

    keys: SessionKeys
    aead: Aead
    counter: SendingCounter

    def seal_empty(self) -> bytes:
        """Return an empty message under the next counter."""
        keys = self.keys
        return transport.seal_data(keys.send, keys.remote_index, self.counter.draw(), b"")


class Way(msgspec.Struct):
    """A further lane of a peer. ``link`` is there from its first proof on."""

    number: int  # from 1
    lane: Lane
    newest: WayKeys | None = msgspec.field(default=None)  # agreed last
    used: WayKeys | None = msgspec.field(default=None)  # sealed with
    opened: dict[int, OpenedKeys] = msgspec.field(default_factory=dict)  # by our index, by age
    link: Link | None = None
    limits: tuple[int, int, Joins] | None = None  # of the path, as the tun-reader has them
    life: WayLife = msgspec.field(default_factory=WayLife)
    seen: Traffic = Traffic(0, 0, 0, 0)

    @property
    def is_proven(self) -> bool:
        """Whether the peer holds the keys that were agreed last."""
        return self.newest is not None and self.used is self.newest

    @property
    def may_be_proven(self) -> bool:
        """Whether there are keys for that, which our link-reader opens with."""
        newest = self.newest
        return newest is not None and self.opened[newest.keys.local_index].is_added

    def take(self, agreed: WayKeys) -> None:
        """Have new keys, which the link-reader is about to get."""
        for index in list(self.opened)[: max(0, len(self.opened) + 1 - RECEIVING_KEYS)]:
            del self.opened[index]
        self.newest = agreed
        self.opened[agreed.keys.local_index] = OpenedKeys(agreed.keys)

    def forget_expired(self, created_before_s: float) -> None:
        """Let go of keys that open nothing any more."""
        for index, each in list(self.opened.items()):
            if each.keys.created_s < created_before_s:
                del self.opened[index]
                if self.newest is not None and self.newest.keys is each.keys:
                    self.newest = None


class Agreed(msgspec.Struct, frozen=True):
    """What the hellos of a session have said: our index and the peer's, for each way from 1."""

    keys: SessionKeys
    aead: Aead
    indices: tuple[tuple[int, int], ...]
    bundle: int  # the peer's, of a dialling one: another one, and it has started anew


class PeerWays(msgspec.Struct):
    """Those of one peer. ``address`` is where a dialling side sends all of them."""

    udp_peer: UdpPeer
    agreed: Agreed
    ways: dict[int, Way] = msgspec.field(default_factory=dict)  # by number
    load: Load = msgspec.field(default_factory=Load)
    address: UdpAddress | None = None
    let_go_s: float | None = None  # when all of them go: the peer has one lane now

    @property
    def slot(self) -> int:
        """The slot of the peer."""
        return self.udp_peer.slotted.slot

    def begin_anew(self, agreed: Agreed) -> None:
        """Agree with the peer's next process, or gateway.

        Nothing is proven there. What the last one has sent is opened, and what was sealed for it
        goes to it still.
        """
        self.agreed, self.address, self.let_go_s = agreed, None, None
        for way in self.ways.values():
            way.newest = way.used = None

    def with_index(self, index: int) -> Way | None:
        """Return the way whose keys were agreed last with this index of ours."""
        for way in self.ways.values():
            if way.newest is not None and way.newest.keys.local_index == index:
                return way
        return None
