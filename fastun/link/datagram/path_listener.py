"""Unsolicited news of paths: hints from routers, and changes of this host's routes."""

from __future__ import annotations

from fastun.host.netlink.rtnetlink import RouteChanges
from fastun.link.attempts import Attempts
from fastun.link.datagram.hints import Hint, HintListener
from fastun.link.datagram.path_mtu import PathWatch
from fastun.link.datagram.peer import UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.datagram.unreachable import UnreachableListener
from fastun.session import clock

# When routes have changed all paths are measured, some 100 us each. Where they change all the time
# (a router that speaks BGP), so many a second on average.
MEASURED_PER_SECOND = 100


class PathListener:
    """Listens for all peers on UDP. Event loop only."""

    def __init__(
        self, paths: PathWatch, peers: UdpPeers, sockets: UdpSockets, attempts: Attempts
    ) -> None:
        """Listen from now on; ``attempts`` learn what did not arrive. Raises OSError."""
        self._paths = paths
        self._peers = peers
        self._by_endpoint: dict[tuple[object, int], list[UdpPeer]] | None = None
        self._have_changed = False
        self._measured_s = float("-inf")
        self._route_changes = RouteChanges()
        ports = sockets.ports()
        self._hints = HintListener(ports, self.on_hint, sockets.maker)
        paths.hears_hints = self._hints.is_allowed
        self._unreachable = UnreachableListener(
            ports,
            lambda it: attempts.unreachable(it.host, it.port, it.reason, str(it)),
            sockets.maker,
        )

    def close(self) -> None:
        """Stop listening."""
        self._route_changes.close()
        self._hints.close()
        self._unreachable.close()

    def tick(self, now_s: float) -> bool:
        """Return whether to measure all paths, because this host's routes have changed."""
        self._by_endpoint = None
        self._have_changed |= self._route_changes.have_come()
        if now_s - self._measured_s < len(self._peers.by_slot) / MEASURED_PER_SECOND:
            return False
        is_due, self._have_changed = self._have_changed, False
        self._measured_s = now_s if is_due else self._measured_s
        return is_due

    def on_hint(self, hint: Hint) -> None:
        """Process a hint for the peers at the end of its path."""
        if self._by_endpoint is None:  # rebuilt once a tick, since peers roam
            self._by_endpoint = {}
            for udp_peer in self._peers.by_slot.values():
                address = udp_peer.address
                if address is not None and self._peers.is_carried(udp_peer):
                    endpoint = (address.host, address.port)
                    self._by_endpoint.setdefault(endpoint, []).append(udp_peer)
        found = self._by_endpoint.get((hint.host, hint.port))
        if found is None:
            self._paths.counts.hints["ignored"] += 1
            return
        for udp_peer in found:
            self._paths.on_hint(udp_peer, hint, clock.boottime_s())
