"""What each worker is doing at the instant of a scrape: idle, busy or blocked.

    device --> tun-reader --[ring]--> link-writer --> sockets
    device <-- tun-writer <--[ring]-- link-reader <-- sockets

A worker is judged by the queues before and after it, and not by its processor time: it has work
while something waits before it, and is blocked while it has work and what comes after it is full.
So in a chain that is limited by one stage, that stage is busy, those before it are blocked and
those after it idle, whatever makes it slow. The average over many scrapes is the share of time.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Literal

from fastun._native import DIRECTIONS, Ring

if TYPE_CHECKING:
    from fastun.gateway import Link
    from fastun.metric_readings import LaneView, Samples, Source

State = Literal["idle", "busy", "blocked"]

STATES: tuple[State, ...] = ("idle", "busy", "blocked")

# A producer that found the ring full sleeps until a quarter of it is free (csrc/ring.c).
FULL_FROM = 3 / 4


def worker_states(source: Source) -> Samples:
    """Yield 1 for the state that each worker is in, and 0 for the others."""
    for lane, role, labels in source.workers():
        now = _state(source, lane, role)
        for state in STATES:
            yield (*labels, state), state == now


def _state(source: Source, lane: LaneView, role: str) -> State:
    ring = lane.rings[DIRECTIONS[role]]
    match role:
        case "tun-reader":
            has_work, is_full = source.gateway.device.has_frames(), _is_full(ring)
        case "link-writer":
            has_work, is_full = ring.used_bytes() > 0, _no_link_takes_more(source)
        case "link-reader":
            has_work, is_full = any(_receives(source)), _is_full(ring)
        case _:  # the kernel takes what the tun-writer writes, or refuses it
            has_work, is_full = ring.used_bytes() > 0, False
    return "idle" if not has_work else "blocked" if is_full else "busy"


def _is_full(ring: Ring) -> bool:
    return ring.used_bytes() >= FULL_FROM * ring.size_bytes


def _receives(source: Source) -> list[bool]:
    streams = [peer.socket for peer in source.peers if peer.socket is not None]
    return [state.receive_queue_bytes > 0 for state in (*streams, *source.udp)]


def _no_link_takes_more(source: Source) -> bool:
    """Return whether the ring has to wait for a link: of several, none holds up the others."""
    links = [peer.link for peer in source.peers if peer.link is not None]
    return not links or (len(links) == 1 and not _has_room(source, links[0]))


def _has_room(source: Source, link: Link) -> bool:
    sockets = source.gateway.sockets.all() if link.connection is None else [link.connection]
    poll = select.poll()
    try:
        for each in sockets:
            poll.register(each, select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # ended since
        return True
