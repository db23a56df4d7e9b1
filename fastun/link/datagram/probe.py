"""Probes of a path's MTU: whether a datagram of a certain length reaches the peer.

    question   {"probe": N, "padding": zeros}   its datagram has N bytes; not to be fragmented
    answer     {"probed": N}                    from the peer that received it

Both are control messages like the hello (type 0x01, 3 zero bytes, a msgpack map), and go only to
peers whose hello says that they answer. A router that drops what is too long for the next link
should say so by ICMP; where that is filtered, silence is all that there is to be heard.

The search is that of RFC 8899 (sections 5.2 and 5.3) with a short list of sizes: the longest that
data can be; if that is not answered the shortest, and then upwards until one is not answered. A
size is given up after three questions, so mere loss seldom lowers a path's MTU, and an outage of
the whole network never does: the search then ends at the longest. A hint, which claims to come from
a router (hints.py), starts a search at once, but never concludes one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fastun import codec
from fastun.link.hello import TYPE
from fastun.native import CONTROL_BYTES_MAX, DATA_BYTES_MIN, UdpAddress

# What paths take, from outside: IPv6's least MTU, and what is left of Ethernet's 1500 by tunnels
# in tunnels, VXLAN (1450), clouds (1460), GRE (1476), 6in4 (1480) and PPPoE (1492).
_SIZES = (1280, 1340, 1380, 1400, 1420, 1450, 1460, 1476, 1480, 1492, 1500)

# A control message may be some 4096 bytes long; a longer path (jumbo frames) is tried with these.
LONGEST = CONTROL_BYTES_MAX

TRIES = 3
TRY_INTERVAL_S = 1.0

# RFC 8899 section 5.1.1 (PMTU_RAISE_TIMER): a path may have become wider, or narrower.
AGAIN_S = 600.0
# Nothing at all was answered, so nothing is known of the path.
SILENT_AGAIN_S = 60.0

# In a search started by a verified hint the next question follows after two round trips, or after
# this time while the round trip is unknown. Routers limit their ICMP to one a second
# (net.ipv4.icmp_ratelimit).
QUICK_INTERVAL_S = 0.3
QUICK_INTERVAL_MIN_S = 0.05
# A probe whose companion is not answered either: the path or the peer is pausing.
SILENT_TRIES = 3 * TRIES
# After a false or unverified hint no further search begins before this: one costs three datagrams
# and as many of the session's counters for control messages.
DEAF_S = 10.0

# By whether a hint is verified: before then it begins no search.
_HEARS_ALL = (float("-inf"), float("-inf"))

_SEAL_BYTES = DATA_BYTES_MIN  # the data message's header and tag
SHORTEST = 512  # of a question; its answer is far shorter, whoever asks
_SHORTEST_HINT = 576  # RFC 791 section 3.2; with IP and UDP header longer than SHORTEST


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question. ``probe`` is the length of its own datagram in bytes."""

    probe: int
    padding: bytes


class Probed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer. ``probed`` is the question's length."""

    probed: int


def question(datagram_bytes: int) -> bytes:
    """Return a question that makes a datagram of so many bytes (of UDP's payload)."""
    room = datagram_bytes - _SEAL_BYTES - len(TYPE)
    map_bytes = len(codec.pack(Probe(datagram_bytes, bytes(room)))) - room
    return TYPE + codec.pack(Probe(datagram_bytes, bytes(room - map_bytes)))


def answer(probe: Probe) -> bytes:
    """Return the answer to a question."""
    return TYPE + codec.pack(Probed(probe.probe))


def decode(message: bytes) -> Probe | Probed | None:
    """Return the question or answer in a message; None when it is neither, or is not as it says."""
    try:
        body: dict[str, Any] = codec.unpack(message[len(TYPE) :], dict[str, Any], LONGEST)
        if "probed" in body:
            return msgspec.convert(body, Probed)
        probe = msgspec.convert(body, Probe)
    except (codec.CodecError, msgspec.ValidationError):
        return None
    is_true = SHORTEST <= probe.probe == len(message) + _SEAL_BYTES
    return probe if is_true else None


class PathSearch(msgspec.Struct, gc=False):
    """The search for one path's MTU. All sizes are those of IP packets outside, in bytes.

    A hint has its size asked for first. When that is answered, each longer size is asked for
    together with it (``companion``): what is lost while the companion arrives is too long, and
    neither lost to a full queue's whim nor to a pause of the network. So such a search may be
    quick, and no hint decides how it ends.
    """

    limit: int = 0  # what the path takes, when that is less than it should; else 0
    _address: UdpAddress | None = None
    _longest: int = 0
    _asked: int = 0  # 0: no search is under way
    _found: int = 0  # the longest that was answered in this search
    _n_tries: int = 0
    _due_s: float = float("-inf")
    _hint: int = 0  # the size that this search began with; 0: no hint is behind it
    _is_quick: bool = False
    _n_companions: int = 0  # answered since `_asked` was first asked for
    _began_s: float = 0.0  # when it was
    _round_trip_s: float = 0.0  # 0: unknown
    _deaf_until_s: tuple[float, float] = _HEARS_ALL

    def follow(self, address: UdpAddress, longest: int) -> None:
        """Search the path to ``address`` up to ``longest``; a path that is known goes on."""
        if address == self._address and longest == self._longest:
            return
        if address != self._address:
            self.limit = 0
            self._round_trip_s = 0.0
            self._deaf_until_s = _HEARS_ALL
        self._address, self._longest = address, longest
        self._begin()

    def on_hint(self, size: int, now_s: float, *, is_verified: bool) -> bool:
        """Begin a search because of a hint that only ``size`` fits (0: less than now).

        Return whether it was begun: not when there is nothing new in it, nor too often.
        """
        is_verified = is_verified and size > 0
        size = max(size, _SHORTEST_HINT) if size else 0
        is_busy = self._asked != 0 and (self._is_quick or not is_verified)
        is_lower = self._hint != 0 and is_verified and size < self._hint
        has_news = size < (self.limit or self._longest) and (not is_busy or is_lower)
        if not has_news or now_s < self._deaf_until_s[is_verified]:
            return False
        if not is_verified:
            self._deaf_until_s = now_s + DEAF_S, self._deaf_until_s[True]
        self._begin()
        if size:
            self._is_quick, self._hint = is_verified, size
            self._round_trip_s = 0.0  # an older one may be that of a busy hour
            self._ask(size)
        return True

    @property
    def companion(self) -> int:
        """The size to probe directly after the one that is due, or 0."""
        return self._found if self._hint else 0

    def due(self, now_s: float) -> int:
        """Return the size to ask for now, or 0."""
        if now_s < self._due_s:
            return 0
        if self._asked == 0:
            self._begin()
        elif self._n_tries >= TRIES:
            self._decide(now_s)
        return self._asked

    def wait_s(self, now_s: float) -> float | None:
        """Return how long a quick search waits for its next step; None: no such search."""
        return max(self._due_s - now_s, 0.0) if self._is_quick and self._asked else None

    def on_asked(self, now_s: float) -> None:
        """Note that the size was asked for, and its companion."""
        if self._n_tries == 0:
            self._began_s = now_s
        self._n_tries += 1
        self._due_s = now_s + self._interval_s()

    def on_answer(self, size: int, now_s: float) -> None:
        """Take an answer, maybe to an earlier question."""
        sizes = self._sizes()
        if self._asked == 0 or size not in sizes:
            return
        if size < self._asked:
            self._n_companions += size == self._found
            return
        self._found = size
        self._round_trip_s = now_s - self._began_s
        if size == self._longest:
            self._end(now_s)
        elif size == self._hint:
            self._ask(self._longest)
        else:
            self._ask(sizes[sizes.index(size) + 1])

    def _interval_s(self) -> float:
        if not self._is_quick:
            return TRY_INTERVAL_S
        if self._round_trip_s == 0:
            return QUICK_INTERVAL_S
        return min(max(2 * self._round_trip_s, QUICK_INTERVAL_MIN_S), TRY_INTERVAL_S)

    def _sizes(self) -> list[int]:
        between = {size for size in (*_SIZES, self._hint) if 0 < size < self._longest}
        return [*sorted(between), self._longest]

    def _begin(self) -> None:
        self._found = self._hint = 0
        self._is_quick = False
        self._ask(self._longest)

    def _ask(self, size: int) -> None:
        self._asked, self._n_tries, self._due_s = size, 0, float("-inf")
        self._n_companions = 0

    def _decide(self, now_s: float) -> None:
        """Give the size up, unless its companion got lost as well."""
        if self._hint == 0:
            self._give_up(now_s)
        elif self._found == 0 or self._n_tries >= SILENT_TRIES:
            self._be_deaf(now_s)
            self._begin()  # the hinted size is not answered: search from the top
        elif self._n_companions >= TRIES:
            self._give_up_hinted(now_s)

    def _give_up(self, now_s: float) -> None:
        shortest = self._sizes()[0]
        if self._found == 0 and self._asked != shortest:
            self._ask(shortest)
        else:
            self._end(now_s)

    def _give_up_hinted(self, now_s: float) -> None:
        sizes = self._sizes()
        above = sizes[sizes.index(self._found) + 1]
        if self._asked == self._longest != above:
            self._ask(above)
        else:
            self._end(now_s)

    def _be_deaf(self, now_s: float) -> None:
        """Begin no search for a while by hints such as this one, nor by those that prove less.

        What a stranger has made up keeps no verified hint from being followed at once.
        """
        until_s = now_s + DEAF_S
        self._deaf_until_s = until_s, until_s if self._is_quick else self._deaf_until_s[True]

    def _end(self, now_s: float) -> None:
        """Conclude. The path MTU does not change before: senders inside remember the least."""
        if self._found > self._hint > 0:  # it was false
            self._be_deaf(now_s)
        self._asked = self._hint = 0
        self._is_quick = False
        if self._found:
            self.limit = self._found if self._found < self._longest else 0
        self._due_s = now_s + (AGAIN_S if self._found else SILENT_AGAIN_S)
