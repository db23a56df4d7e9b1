"""Probes of a path's MTU: whether a datagram of a certain length reaches the peer.

    question   {"probe": N, "padding": zeros}   its datagram has N bytes; not to be fragmented
    answer     {"probed": N}                    of whoever has received it

Both are control messages like the hello (type 0x01, 3 zero bytes, a msgpack map), and go only to
peers whose hello says that they answer. A router that drops what is too long for the next link
should say so by ICMP; where that is filtered, silence is all that there is to be heard.

The search is that of RFC 8899 (sections 5.2 and 5.3) with a short list of sizes: the longest that
data can be; if that is not answered the shortest, and then upwards until one is not answered. A
size is given up after three questions, so mere loss seldom narrows a path, and a pause of the
whole network never does: the search then ends at the longest.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgpack
import msgspec

from fastun._native import UdpAddress
from fastun.link.hello import TYPE

# What paths take, from outside: IPv6's least MTU, and what is left of Ethernet's 1500 by tunnels
# in tunnels, VXLAN (1450), clouds (1460), GRE (1476), 6in4 (1480) and PPPoE (1492).
_SIZES = (1280, 1340, 1380, 1400, 1420, 1450, 1460, 1476, 1480, 1492, 1500)

# A control message may be some 4096 bytes long; a longer path (jumbo frames) is tried with these.
LONGEST = 4096

TRIES = 3
TRY_INTERVAL_S = 1.0

# RFC 8899 section 5.1.1 (PMTU_RAISE_TIMER): a path may have become wider, or narrower.
AGAIN_S = 600.0
# Nothing at all was answered, so nothing is known of the path.
SILENT_AGAIN_S = 60.0

_SEAL_BYTES = 32  # the data message's header and tag
_SHORTEST = 512  # of a question; its answer is far shorter, whoever asks


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
    map_bytes = len(msgpack.packb({"probe": datagram_bytes, "padding": bytes(room)})) - room
    body: bytes = msgpack.packb({"probe": datagram_bytes, "padding": bytes(room - map_bytes)})
    return TYPE + body


def answer(probe: Probe) -> bytes:
    """Return the answer to a question."""
    body: bytes = msgpack.packb({"probed": probe.probe})
    return TYPE + body


def decode(message: bytes) -> Probe | Probed | None:
    """Return the question or answer in a message; None when it is neither, or is not as it says."""
    try:
        body = msgpack.unpackb(message[len(TYPE) :])
        if not isinstance(body, dict):
            return None
        if "probed" in body:
            return msgspec.convert(body, Probed)
        probe = msgspec.convert(body, Probe)
    except (msgspec.ValidationError, msgpack.UnpackException, ValueError, RecursionError):
        return None
    is_true = _SHORTEST <= probe.probe == len(message) + _SEAL_BYTES
    return probe if is_true else None


@dataclass
class PathSearch:
    """The search for one path's MTU. All sizes are those of IP packets outside, in bytes."""

    limit: int = 0  # what the path takes, when that is less than it should; else 0
    _address: UdpAddress | None = None
    _longest: int = 0
    _asked: int = 0  # 0: no search is under way
    _found: int = 0  # the longest that was answered in this search
    _n_tries: int = 0
    _due_s: float = float("-inf")

    def follow(self, address: UdpAddress, longest: int) -> None:
        """Search the path to ``address`` up to ``longest``; a path that is known goes on."""
        if address == self._address and longest == self._longest:
            return
        if address != self._address:
            self.limit = 0
        self._address, self._longest = address, longest
        self._begin()

    def due(self, now_s: float) -> int:
        """Return the size to ask for now, or 0."""
        if now_s < self._due_s:
            return 0
        if self._asked == 0:
            self._begin()
        elif self._n_tries == TRIES:
            self._give_up(now_s)
        return self._asked

    def on_asked(self, now_s: float) -> None:
        """Note that the size was asked for."""
        self._n_tries += 1
        self._due_s = now_s + TRY_INTERVAL_S

    def on_answer(self, size: int, now_s: float) -> None:
        """Take an answer, maybe to an earlier question."""
        sizes = self._sizes()
        if self._asked == 0 or size < self._asked or size not in sizes:
            return
        self._found = size
        if size == self._longest:
            self._end(now_s)
        else:
            self._ask(sizes[sizes.index(size) + 1])

    def _sizes(self) -> list[int]:
        return [size for size in _SIZES if size < self._longest] + [self._longest]

    def _begin(self) -> None:
        self._found = 0
        self._ask(self._longest)

    def _ask(self, size: int) -> None:
        self._asked, self._n_tries, self._due_s = size, 0, float("-inf")

    def _give_up(self, now_s: float) -> None:
        shortest = self._sizes()[0]
        if self._found == 0 and self._asked != shortest:
            self._ask(shortest)
        else:
            self._end(now_s)

    def _end(self, now_s: float) -> None:
        """Conclude. What senders inside are told is not changed before: they remember the least."""
        self._asked = 0
        if self._found:
            self.limit = self._found if self._found < self._longest else 0
        self._due_s = now_s + (AGAIN_S if self._found else SILENT_AGAIN_S)
