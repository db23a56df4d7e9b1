"""Which lanes carry a peer, as the tun-readers of several lanes hear it."""

from __future__ import annotations

from fastun.lane.messages import ToGateway, ToWorker


class SetWays(ToWorker, frozen=True, tag="set-ways"):
    """To a tun-reader: these lanes carry the peer; none: lane 0 is to ask for a session.

    ``by_flow``: each flow has one of them, else a frame's own lane is taken where it is one.
    ``number`` is answered by WaysSet; 0: not at all. ``sealed_for``: the indices by which all lanes
    seal for it on UDP.
    """

    slot: int
    lanes: tuple[int, ...]
    by_flow: bool
    number: int = 0
    sealed_for: tuple[int, ...] = ()


class WaysSet(ToGateway, frozen=True, tag="ways-set"):
    """A tun-reader has acted on SetWays, and on all that it was sent before."""

    slot: int
    number: int
