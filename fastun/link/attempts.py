"""What was tried to reach each peer, what came back, and the warning that says so.

    tried --> came_back, failed, unreachable --> tick: some seconds without a link, and a warning
          `-> succeeded                                says what was tried and how, what came back,
                                                       and the likely causes

Both transports note here what they do; the warning is one for both. It is repeated at growing
intervals, for as long as attempts are made. A link on TCP while UDP is silent is an info line.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

import msgspec

from fastun import log
from fastun.endpoint import Scheme, format_host_port
from fastun.link.last_error import Reason
from fastun.link.likely import CAME_BACK, ORDER, causes, of_error
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import Link
from fastun.session import clock

# Handshakes on UDP are sent again after 5 and 10 s. Where an error came back, only a restart of the
# server has to be ruled out.
SILENT_S: Final = 12.0
ANSWERED_S: Final = 5.0

# Between warnings: doubling.
REPEAT_FIRST_S: Final = 60.0
REPEAT_MAX_S: Final = 960.0

# Without a new attempt for so long, none is made any more. Dialling pauses for 40 s at most.
FORGOTTEN_S: Final = 60.0

WAYS_MAX: Final = 16
PORTS_SAID: Final = 2

Address = IPv4Address | IPv6Address
WayOut = Callable[[Address, int, int], str]

_PROTOCOLS: Final[dict[Scheme, int]] = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}


class Way(NamedTuple):
    """What is tried: an address, and the name that it is of, empty where it was written itself."""

    scheme: Scheme
    host: Address
    port: int
    name: str = ""


class _Outcome(msgspec.Struct):
    reason: Reason = Reason.NO_ANSWER
    text: str = CAME_BACK[Reason.NO_ANSWER]


class _Effort(msgspec.Struct):
    """The attempts to reach one peer since it was last reached. Times are CLOCK_BOOTTIME."""

    slotted: SlottedPeer
    since_s: float
    tried_s: float
    due_s: float
    interval_s: float = REPEAT_FIRST_S
    has_warned: bool = False
    ways: dict[Way, _Outcome] = msgspec.field(default_factory=dict)

    def worst(self) -> tuple[Way, _Outcome]:
        """Return the way of which most is known."""
        return min(self.ways.items(), key=lambda each: ORDER.index(each[1].reason))


class Attempts:
    """Those of all peers. Event loop only."""

    def __init__(
        self,
        links: Mapping[int, Link] | None = None,
        way_out: WayOut = lambda *_: "",
        own_key: str = "",
    ) -> None:
        """Begin without any. ``links`` are by slot; ``way_out`` describes the route to an address.

        ``own_key`` is the fingerprint of our public key.
        """
        self._links = {} if links is None else links
        self._way_out = way_out
        self._own_key = own_key
        self._by_slot: dict[int, _Effort] = {}
        self._log = log.get("link")

    # -- what happens ---------------------------------------------------------------------------

    def tried(self, slotted: SlottedPeer, way: Way) -> None:
        """Take note of an attempt; the last one by the same way has had its time."""
        now_s = clock.boottime_s()
        effort = self._by_slot.get(slotted.slot)
        if effort is None or effort.slotted is not slotted:
            effort = _Effort(slotted, now_s, now_s, now_s + SILENT_S)
            self._by_slot[slotted.slot] = effort
        effort.tried_s = now_s
        last = effort.ways.pop(way, None)
        if last is not None and last.reason is Reason.NO_ANSWER and way.scheme == "udp":
            self._note(slotted, last, way)
        effort.ways[way] = last or _Outcome()  # the last one tried is last
        if len(effort.ways) > WAYS_MAX:
            del effort.ways[next(iter(effort.ways))]

    def came_back(self, slot: int, reason: Reason, text: str = "") -> None:
        """Take note of what came back to the last attempt on UDP, or kept it from being sent."""
        effort = self._by_slot.get(slot)
        way = None if effort is None else _last(effort, "udp")
        if effort is not None and way is not None:
            self._on_outcome(effort, way, _Outcome(reason, text or CAME_BACK[reason]))

    def failed(
        self, slotted: SlottedPeer, way: Way, error: BaseException, *, is_connected: bool = False
    ) -> None:
        """Take note of an attempt that has failed; ``is_connected`` as for `of_error`."""
        if way not in self._ways_of(slotted):
            self.tried(slotted, way)
        reason, text = of_error(error, is_connected=is_connected)
        effort = self._by_slot[slotted.slot]
        self._on_outcome(effort, way, _Outcome(reason, text))

    def unresolved(self, slotted: SlottedPeer, why: str) -> None:
        """Take note that a name has no address now, so nothing was tried; names.py warns."""
        if slotted.slot not in self._links:
            slotted.errors.note(Reason.NAME, f"its name cannot be resolved: {why}")

    def unreachable(self, host: Address, port: int, reason: Reason, text: str) -> None:
        """Take note of an ICMP message about a datagram of ours to ``host``."""
        for effort in self._by_slot.values():
            for way in effort.ways:
                if way.scheme == "udp" and (way.host, way.port) == (host, port):
                    self._on_outcome(effort, way, _Outcome(reason, text))

    def succeeded(self, slot: int, scheme: Scheme) -> None:
        """Take note of a link by one transport; attempts by the other go on."""
        effort = self._by_slot.get(slot)
        if effort is None:
            return
        effort.ways = {way: each for way, each in effort.ways.items() if way.scheme != scheme}
        if not effort.ways or scheme == "udp":
            self.forget(slot)
        effort.slotted.errors.clear()

    def forget(self, slot: int) -> None:
        """Forget the slot's peer."""
        self._by_slot.pop(slot, None)

    def _ways_of(self, slotted: SlottedPeer) -> Mapping[Way, _Outcome]:
        effort = self._by_slot.get(slotted.slot)
        return {} if effort is None else effort.ways

    def _on_outcome(self, effort: _Effort, way: Way, outcome: _Outcome) -> None:
        effort.ways[way] = outcome
        if outcome.reason is not Reason.NO_ANSWER and not effort.has_warned:
            effort.due_s = min(effort.due_s, effort.since_s + ANSWERED_S)
        self._note(effort.slotted, outcome, way)

    def _note(self, slotted: SlottedPeer, outcome: _Outcome, way: Way) -> None:
        if slotted.slot not in self._links:
            slotted.errors.note(outcome.reason, f"{_at(way)}: {outcome.text}")

    def are_made(self) -> bool:
        """Return whether there are any that have not succeeded yet."""
        return bool(self._by_slot)

    # -- the log --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Say what is due."""
        now_s = clock.boottime_s()
        for slot, effort in list(self._by_slot.items()):
            if now_s - effort.tried_s > FORGOTTEN_S:
                del self._by_slot[slot]
                if slot in self._links:  # it is heard again, without a handshake
                    effort.slotted.errors.clear()
            elif effort.ways and now_s >= effort.due_s:
                self._say(effort, self._links.get(slot), now_s)

    def _say(self, effort: _Effort, link: Link | None, now_s: float) -> None:
        peer = effort.slotted.peer.name
        way, outcome = effort.worst()
        fields = {
            "for_s": round(now_s - effort.since_s),
            "tried": self._said(effort),
            "came_back": _came_back(effort),
        }
        likely = causes(outcome.reason, way.scheme, self._own_key)
        if link is not None and link.transport == "tcp" and way.scheme == "udp":
            if not effort.has_warned:
                self._log.info("UDP does not get through; the link is on TCP", peer=peer, **fields)
        elif link is not None:
            event = "the peer does not answer any more"
            self._log.warning(event, peer=peer, **fields, likely=likely)
            effort.slotted.errors.note(outcome.reason, f"{event}: {_at(way)}: {outcome.text}")
        else:
            self._log.warning("cannot connect", peer=peer, **fields, likely=likely)
        effort.has_warned = True
        effort.due_s = now_s + effort.interval_s
        effort.interval_s = min(2 * effort.interval_s, REPEAT_MAX_S)
        effort.ways = {}  # what comes of the next attempts may be something else

    def _said(self, effort: _Effort) -> str:
        """Return the way of which most is known, other ports of its host, and how many more."""
        way, _ = effort.worst()
        there = [each for each in effort.ways if each.host == way.host and each != way]
        ports = "".join(f", {each.scheme} {each.port}" for each in there[:PORTS_SAID])
        n_more = len(effort.ways) - 1 - len(there[:PORTS_SAID])
        return f"{self._described(way)}{ports}" + (f"; {n_more} more" if n_more else "")

    def _described(self, way: Way) -> str:
        where = format_host_port(str(way.host), way.port)
        named = f"{way.name} {where}" if way.name else where
        return f"{way.scheme} {named} {self._way_out(*way[1:3], _PROTOCOLS[way.scheme])}".rstrip()


def _at(way: Way) -> str:
    return f"{way.scheme} {format_host_port(str(way.host), way.port)}"


def _last(effort: _Effort, scheme: Scheme) -> Way | None:
    return next((way for way in reversed(effort.ways) if way.scheme == scheme), None)


def _came_back(effort: _Effort) -> str:
    """Return what came back; by transport where that differs."""
    by_scheme = {way.scheme: each.text for way, each in effort.ways.items()}
    texts = set(by_scheme.values())
    if len(texts) == 1:
        return texts.pop()
    return "; ".join(f"{scheme}: {text}" for scheme, text in by_scheme.items())


def named(host: Address, endpoint_host: str) -> str:
    """Return the name of an endpoint, if it is one."""
    return "" if endpoint_host.partition("%")[0] == str(host) else endpoint_host
