"""Which of a peer's addresses is tried first: what is known of each, and the order that is wanted.

    listed   as in the file, a name's addresses as DNS gives them
    spread   as a hash of our key and the address has it: another order for each client, the same at
             each start. What a gateway that is gone had is spread over all others
    then     those that were silent in vain come last for a while, longer each time
    left     those that have asked to be left (drain_messages.py): only where there are no others

Nothing is ever left out for good: where all have failed, all are tried as if none had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from fastun.session import clock

if TYPE_CHECKING:
    from fastun.endpoint import Scheme
    from fastun.peers.peer import Peer

# After the first failure, and doubled by each further one.
BACK_OFF_FIRST_S: Final = 5.0
BACK_OFF_MAX_S: Final = 300.0

# A client may have many addresses in its life; those that are remembered longest are forgotten.
REMEMBERED_MAX: Final = 256

Host = IPv4Address | IPv6Address
Key = tuple["Scheme", Host, int]  # and a port
T = TypeVar("T")


class _Failure(msgspec.Struct):
    n: int
    until_s: float  # CLOCK_BOOTTIME, as all times here


class EndpointHealth:
    """That of all addresses that a side dials. Event loop only."""

    def __init__(self, own_key: bytes = b"") -> None:
        """Know nothing. ``own_key`` makes the order of this client another than that of others."""
        self._own_key = own_key
        self._left: dict[Host, float] = {}  # until when
        self._failures: dict[Key, _Failure] = {}

    # -- what happens ---------------------------------------------------------------------------

    def failed(self, key: Key) -> int:
        """Note that there was no answer from an address; return how often in a row."""
        before = self._failures.pop(key, None)
        n = 1 if before is None else before.n + 1
        pause_s = min(BACK_OFF_FIRST_S * 2 ** (n - 1), BACK_OFF_MAX_S)
        self._failures[key] = _Failure(n, clock.boottime_s() + pause_s)
        if len(self._failures) > REMEMBERED_MAX:
            del self._failures[next(iter(self._failures))]
        return n

    def answered(self, key: Key) -> None:
        """Note that there was one."""
        self._failures.pop(key, None)

    def leave(self, host: Host, seconds: float) -> None:
        """Note that the gateway there has asked to be left for so long."""
        now_s = clock.boottime_s()
        self._left = {each: s for each, s in self._left.items() if s > now_s}  # no other is kept
        self._left[host] = now_s + seconds
        if len(self._left) > REMEMBERED_MAX:
            del self._left[next(iter(self._left))]

    def return_to(self, host: Host) -> None:
        """Note that it takes clients again."""
        self._left.pop(host, None)

    # -- what comes of it -----------------------------------------------------------------------

    def is_left(self, host: Host) -> bool:
        """Return whether the gateway there has asked to be left."""
        return self.left_until_s(host) > 0.0

    def left_until_s(self, host: Host) -> float:
        """Return until when, 0 where it has not. Any thread."""
        until_s = self._left.get(host, 0.0)
        return until_s if clock.boottime_s() < until_s else 0.0

    def is_backed_off(self, key: Key) -> bool:
        """Return whether the address has failed, not long ago."""
        return self.backed_off_until_s(key) > 0.0

    def backed_off_until_s(self, key: Key) -> float:
        """Return until when, 0 where it has not. Any thread."""
        failure = self._failures.get(key)
        is_on = failure is not None and clock.boottime_s() < failure.until_s
        return failure.until_s if failure is not None and is_on else 0.0

    def ordered(self, peer: Peer, found: Iterable[T], key_of: Callable[[T], Key]) -> list[T]:
        """Return what was found of a peer in the order in which it is to be tried."""
        places = self.preferred(peer, found, key_of)
        places.sort(key=lambda each: self.is_backed_off(key_of(each)))
        return places

    def preferred(self, peer: Peer, found: Iterable[T], key_of: Callable[[T], Key]) -> list[T]:
        """Return it in the order that is wanted, whichever have failed."""
        places = list(found)
        if peer.endpoint_order == "spread":
            places.sort(key=lambda each: self._turn(key_of(each)[1]))
        return places

    def _turn(self, host: Host) -> bytes:
        return blake2s(self._own_key + host.packed, digest_size=8).digest()
