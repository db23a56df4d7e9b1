"""Addresses of peers as the workers take them, and the messages in which they change hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.lane.messages import AllowIps, ChangeIps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.link.slotted_peer import SlottedPeer
    from fastun.peers.peer import Network, Peer

# A control message takes 8 KiB; an IPv6 network in it takes 22 bytes. A file may have 130,000.
NETWORKS_PER_MESSAGE: Final = 256

# An address and the length of its prefix; and with a slot in front.
Ip = tuple[bytes, int]
SlotIp = tuple[int, bytes, int]


def of(peer: Peer) -> dict[Ip, None]:
    """Return those of a peer, each once."""
    return dict.fromkeys(map(packed, peer.allowed_ips))


def packed(network: Network) -> Ip:
    """Return a network as the workers take it."""
    return network.network_address.packed, network.prefixlen


def allowed(slot: int, peers: Iterable[SlottedPeer]) -> Iterator[AllowIps]:
    """Yield what gives a slot the addresses of these peers."""
    networks = [packed(n) for slotted in peers for n in slotted.peer.allowed_ips]
    for start in range(0, len(networks), NETWORKS_PER_MESSAGE):
        yield AllowIps(slot, tuple(networks[start : start + NETWORKS_PER_MESSAGE]))


def changed(added: list[SlotIp], removed: list[SlotIp]) -> Iterator[ChangeIps]:
    """Yield what has addresses change hands: in one step, or where they are many, without a gap.

    What moves is the new peer's before it is taken from the old one, which does not take it
    from the new one.
    """
    n, most = len(added), NETWORKS_PER_MESSAGE
    for start in range(0, n + len(removed), most):
        end = start + most
        yield ChangeIps(
            tuple(added[start:end]), tuple(removed[max(0, start - n) : max(0, end - n)])
        )
