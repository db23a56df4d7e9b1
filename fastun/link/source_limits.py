"""Sources, and rate limits for each: token buckets.

A source is an IPv4 address or an IPv6 /64, which one host may have to itself.
On UDP the link-reader has the same limits (csrc/inbound/handshake_gate.h). A TCP connection proves
its source address, so the limits are those for messages with a valid cookie.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address

# The numbers of csrc/inbound/handshake_gate.h, where the reasons are; a test compares them.
HANDSHAKES_PER_SECOND = 20
HANDSHAKES_BURST = 100
PROVEN_PER_SECOND_OF_ALL = 2000
PROVEN_BURST_OF_ALL = 500

# Sources that are remembered, some 200 bytes each. One whose bucket is full again (5 s) need not
# be; when so many come within that time, the one not seen for longest begins with a full bucket.
SOURCES_MAX = 8192

_NS_PER_S = 10**9

IPV4_BYTES = 4


def source_of(host: str) -> bytes:
    """Return what counts as one source: an IPv4 address, mapped or not, or an IPv6 /64.

    One host has all of its /64 (as Linux drivers/net/wireguard/ratelimiter.c counts).
    """
    return source_of_address(ip_address(host))


def source_of_address(address: IPv4Address | IPv6Address) -> bytes:
    """As ``source_of``."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed[:8]
    return address.packed


def host_of(source: bytes) -> bytes:
    """Return what is limited as one with a source: each user of this host has all of 127/8."""
    is_loopback4 = len(source) == IPV4_BYTES and IPv4Address(source).is_loopback
    return source[:1] if is_loopback4 else source


def name_of(source: bytes) -> str:
    """Return a source as text: an IPv4 address, or an IPv6 network."""
    if len(source) == IPV4_BYTES:
        return str(IPv4Address(source))
    return f"{IPv6Address(source.ljust(16, bytes(1)))}/64"


class TokenBucket:
    """Tokens, kept as the one moment at which the bucket would be full."""

    def __init__(self, per_second: float, burst: int) -> None:
        """Begin full."""
        self._token_ns = int(_NS_PER_S / per_second)
        self._burst_ns = burst * self._token_ns
        self._full_at_ns = 0

    def take(self, now_s: float) -> bool:
        """Take a token; False: there is none."""
        now_ns = int(now_s * _NS_PER_S)
        full_at_ns = max(self._full_at_ns, now_ns) + self._token_ns
        if full_at_ns > now_ns + self._burst_ns:
            return False
        self._full_at_ns = full_at_ns
        return True

    def is_full(self, now_s: float) -> bool:
        """Return whether a new bucket would be the same."""
        return self._full_at_ns <= now_s * _NS_PER_S


class SourceLimits:
    """A bucket for each source. Memory is bounded by SOURCES_MAX."""

    def __init__(
        self, per_second: int = HANDSHAKES_PER_SECOND, burst: int = HANDSHAKES_BURST
    ) -> None:
        """Begin with every bucket full."""
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()  # last seen last

    def take(self, source: bytes, now_s: float) -> bool:
        """Take a token of the source's; False: it has none."""
        bucket = self._buckets.get(source)
        if bucket is None:
            self._forget_some(now_s)
            bucket = self._buckets[source] = TokenBucket(self._per_second, self._burst)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(now_s)

    def _forget_some(self, now_s: float) -> None:
        """Forget the least recently seen: two at most, so that no call takes long."""
        for _ in range(2):
            source, bucket = next(iter(self._buckets.items()), (None, None))
            if source is None or bucket is None:
                return
            if len(self._buckets) < SOURCES_MAX and not bucket.is_full(now_s):
                return
            del self._buckets[source]
