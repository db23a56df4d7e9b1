"""What is behind the peers of a directory, kept from one look to the next. One thread at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastun.host.served_peers import ServedPeers
    from fastun.peers.peer import Network


class Behind:
    """Of one directory."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._version = -1
        self._by_name: dict[str, tuple[Network, ...]] = {}
        self._networks: frozenset[Network] = frozenset()

    def of(self, peers: ServedPeers) -> frozenset[Network]:
        """Return all networks of its peers. Raises FastunError."""
        version = peers.version()
        if version != self._version:
            changes = peers.changes_since(self._version)
            if changes is None:
                self._by_name = {each.name: each.allowed_ips for each in peers.peers()}
            else:
                version = changes.version
                for name in changes.gone:
                    self._by_name.pop(name, None)
                self._by_name |= {each.name: each.allowed_ips for each in changes.peers}
            self._version = version
            networks = (each for of_peer in self._by_name.values() for each in of_peer)
            self._networks = frozenset(networks)
        return self._networks
