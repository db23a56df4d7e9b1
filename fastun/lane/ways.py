"""Which lanes carry a peer, as the tun-readers of several lanes hear it."""

from __future__ import annotations

from fastun.lane.messages import ToWorker


class SetWays(ToWorker, frozen=True, tag="set-ways"):
    """To a tun-reader: these lanes carry the peer; none: lane 0 is to ask for a session.

    ``by_flow``: each flow has one of them, else a frame's own lane is taken where it is one.
    """

    slot: int
    lanes: tuple[int, ...]
    by_flow: bool
