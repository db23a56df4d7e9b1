"""What a scrape reads of peers and links; fastun.metrics.peer_families says for which metric."""

from __future__ import annotations

from collections.abc import Callable

from fastun.metrics.readings import Read, Samples, ScrapedPeer, Source
from fastun.native import PEER_SLOTS, TcpInfo


def of_peers(read_value: Callable[[ScrapedPeer], float]) -> Read:
    """Return what reads a number of every peer."""

    def read(source: Source) -> Samples:
        for peer in source.peers:
            yield (peer.view.name,), read_value(peer)

    return read


def mac_addresses(source: Source) -> Samples:
    """Yield how many Ethernet addresses are behind every peer, where fastun switches."""
    for peer in source.peers:
        if peer.view.macs is not None:
            yield (peer.view.name,), peer.view.macs.total


def peers_max(source: Source) -> Samples:
    """Yield how many peers there is room for: without keys for one."""
    yield (), PEER_SLOTS if source.gateway.configuration.wire == "wireguard" else 1


def of_peer_table(*fields: str) -> Read:
    """Return what reads the sum of some of native.PEER_FIELDS of every peer."""
    return of_peers(lambda peer: sum(peer.view.counted[field] for field in fields))


def peer_info(source: Source) -> Samples:
    """Yield 1 for every peer with a link, under what is at its other end."""
    wire = source.gateway.configuration.wire
    for peer in source.peers:
        if peer.view.link is not None:
            yield (peer.view.name, wire, peer.software, peer.view.link.transport), 1


def path_mtu(source: Source) -> Samples:
    """Yield the MTU of the path to each peer on UDP, once it is known."""
    for name, link in source.links():
        if link.path_mtu > 0:
            yield (name,), link.path_mtu


def of_tcp(read_value: Callable[[TcpInfo], float]) -> Read:
    """Return what reads a number of every link's connection."""

    def read(source: Source) -> Samples:
        for name, link in source.links():
            if link.tcp is not None:
                yield (name,), read_value(link.tcp)

    return read


def socket_receive_queue(source: Source) -> Samples:
    """Yield what waits in every link's socket for the link-reader."""
    for name, link in source.links():
        if link.socket is not None:
            yield (name,), link.socket.receive_queue_bytes


def last_handshake(source: Source) -> Samples:
    """Yield when each peer's last handshake succeeded, 0 for never."""
    if source.gateway.sessions is not None:
        for peer in source.peers:
            yield (peer.view.name,), peer.view.last_handshake or 0


def last_errors(source: Source) -> Samples:
    """Yield when each peer's last error was, while it has one."""
    for peer in source.peers:
        if peer.view.last_error is not None:
            error = peer.view.last_error
            yield (peer.view.name, error.reason.value), error.since


def peer_errors(source: Source) -> Samples:
    """Yield how often each peer had each error, of those that it had."""
    for peer in source.peers:
        for reason, n in peer.view.errors.items():
            yield (peer.view.name, reason.value), n
