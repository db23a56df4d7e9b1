"""What each worker is doing at the instant of a look: idle, busy or blocked.

    device --> tun-reader --[ring]--> link-writer --> sockets
    device <-- tun-writer <--[ring]-- link-reader <-- sockets

A worker is judged by the queues before and after it, and not by its processor time: it has work
while something waits before it, and is blocked while it has work and what comes after it is full.
So in a chain that is limited by one stage, that stage is busy, those before it are blocked and
those after it idle, whatever makes it slow. The average over many looks is the share of time.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastun.native import DIRECTIONS, Ring

if TYPE_CHECKING:
    from fastun.gateway.gateway import Gateway, Link
    from fastun.host.socket_state import SocketState
    from fastun.metrics.readings import Samples, Source

State = Literal["idle", "busy", "blocked"]

STATES: tuple[State, ...] = ("idle", "busy", "blocked")

# A producer that found the ring full sleeps until a quarter of it is free (csrc/shared/ring.c).
FULL_FROM = 3 / 4


@dataclass(frozen=True, slots=True)
class Ends:
    """What stands before and after a lane: work in the device and the links, room in the links."""

    device_has_frames: bool
    links_have_bytes: bool
    links_take_more: bool


def worker_states(source: Source) -> Samples:
    """Yield 1 for the state that each worker is in, and 0 for the others."""
    links = [peer.link for peer in source.peers if peer.link is not None]
    streams = [peer.socket for peer in source.peers if peer.socket is not None]
    ends = ends_of(source.gateway, links, [*streams, *source.udp])
    for lane, role, labels in source.workers():
        now = state_of(role, lane.rings[DIRECTIONS[role]], ends)
        for state in STATES:
            yield (*labels, state), state == now


def ends_of(gateway: Gateway, links: list[Link], sockets: Iterable[SocketState]) -> Ends:
    """Return what is before and after the lane of a gateway with these links. Any thread."""
    return Ends(
        device_has_frames=gateway.device.has_frames(),
        links_have_bytes=any(state.receive_queue_bytes > 0 for state in sockets),
        links_take_more=_links_take_more(gateway, links),
    )


def state_of(role: str, ring: Ring, ends: Ends) -> State:
    """Return the state of the worker ``role`` on its ``ring``."""
    match role:
        case "tun-reader":
            has_work, is_full = ends.device_has_frames, _is_full(ring)
        case "link-writer":
            has_work, is_full = ring.used_bytes() > 0, not ends.links_take_more
        case "link-reader":
            has_work, is_full = ends.links_have_bytes, _is_full(ring)
        case _:  # the kernel takes what the tun-writer writes, or refuses it
            has_work, is_full = ring.used_bytes() > 0, False
    return "idle" if not has_work else "blocked" if is_full else "busy"


def _is_full(ring: Ring) -> bool:
    return ring.used_bytes() >= FULL_FROM * ring.size_bytes


def _links_take_more(gateway: Gateway, links: list[Link]) -> bool:
    """Return whether the ring need not wait for a link: of several, none holds up the others."""
    return len(links) > 1 or (len(links) == 1 and _has_room(gateway, links[0]))


def _has_room(gateway: Gateway, link: Link) -> bool:
    sockets = gateway.sockets.all() if link.connection is None else [link.connection]
    poll = select.poll()
    try:
        for each in sockets:
            poll.register(each, select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # ended since
        return True
