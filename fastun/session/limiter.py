"""How many handshakes one source may ask for: a token bucket for each IPv4 address or IPv6 /64.

20 a second, 5 at once (Linux drivers/net/wireguard/ratelimiter.c). A /64 is one source because one
host has all of it. Asked only when a cookie has proved the address: otherwise anybody could use up
the tokens of somebody else.
"""

from ipaddress import IPv4Address, IPv6Address

from fastun.session.protocol import HANDSHAKES_BURST, HANDSHAKES_PER_SECOND

_IPV6_PREFIX_BYTES = 8

# A bucket is forgotten when it is full again, 0.25 s after its last use, so this many sources have
# to prove themselves within 0.25 s to fill the table: some 3 MiB.
SOURCES_MAX = 16384


class SourceLimiter:
    """Token buckets by source, bounded in number. Not thread-safe."""

    def __init__(
        self,
        per_second: float = HANDSHAKES_PER_SECOND,
        burst: int = HANDSHAKES_BURST,
        sources_max: int = SOURCES_MAX,
    ) -> None:
        """Start with every source's bucket full."""
        self._per_second = per_second
        self._burst = float(burst)
        self._sources_max = sources_max
        # source -> (tokens, when); the least recently used first.
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return the number of sources that are kept."""
        return len(self._buckets)

    def admit(self, address: IPv4Address | IPv6Address, now_s: float) -> bool:
        """Whether the source of `address` has a token left; takes it."""
        self._forget_full_buckets(now_s)
        source = _source(address)
        if source not in self._buckets and len(self._buckets) >= self._sources_max:
            return False
        tokens, since_s = self._buckets.pop(source, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - since_s) * self._per_second)
        admitted = tokens >= 1
        self._buckets[source] = (tokens - 1 if admitted else tokens, now_s)
        return admitted

    def _forget_full_buckets(self, now_s: float) -> None:
        full_after_s = self._burst / self._per_second
        while self._buckets:
            oldest = next(iter(self._buckets))
            if now_s - self._buckets[oldest][1] < full_after_s:
                return
            del self._buckets[oldest]


def _source(address: IPv4Address | IPv6Address) -> bytes:
    """Return what counts as one source: 4 bytes of IPv4, 8 of IPv6."""
    if isinstance(address, IPv6Address):
        # On a socket of both families every IPv4 peer stands in ::ffff:0:0/96, one and the same
        # /64: one of them could use up the tokens of all.
        if address.ipv4_mapped is None:
            return address.packed[:_IPV6_PREFIX_BYTES]
        return address.ipv4_mapped.packed
    return address.packed
