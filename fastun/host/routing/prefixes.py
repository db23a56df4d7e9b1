"""Networks indexed by length: which of them hold an address or a network, without a look at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Address, IPv6Address

    from fastun.peers.peer import Network

_Value = TypeVar("_Value")


class Prefixes(Generic[_Value]):
    """A value for each network; a look-up costs one step for each length that occurs."""

    def __init__(self, values: Iterable[tuple[Network, _Value]]) -> None:
        """Index ``values``; of two for the same network the first one counts."""
        self._by_length: dict[int, dict[int, dict[int, _Value]]] = {4: {}, 6: {}}
        for network, value in values:
            same_length = self._by_length[network.version].setdefault(network.prefixlen, {})
            same_length.setdefault(int(network.network_address), value)

    def holding(self, network: Network) -> Iterator[_Value]:
        """Yield the values of the networks that equal ``network`` or contain it, longest first."""
        return self._holding(
            int(network.network_address), network.prefixlen, network.max_prefixlen, network.version
        )

    def holding_address(self, address: IPv4Address | IPv6Address) -> Iterator[_Value]:
        """Yield the values of the networks that contain ``address``, longest first."""
        width = address.max_prefixlen
        return self._holding(int(address), width, width, address.version)

    def _holding(self, first: int, length: int, width: int, version: int) -> Iterator[_Value]:
        by_length = self._by_length[version]
        for shorter in sorted(by_length, reverse=True):
            if shorter <= length:
                held_by = by_length[shorter].get(first >> width - shorter << width - shorter)
                if held_by is not None:
                    yield held_by
