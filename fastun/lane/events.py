"""What a worker reports of what its loop returned for: one message for each kind of event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastun.lane.messages import (
    CLOSED_BY_PEER,
    ControlCame,
    KeyConfirmed,
    LinkEnded,
    PathTooNarrow,
    RefusalChanged,
    SessionWanted,
    StreamHandshakeCame,
    ToGateway,
    UdpHandshakeCame,
)
from fastun.native.loop import Event, EventKind


def message_of(event: Event) -> ToGateway:
    """Return what the gateway is to receive."""
    return MESSAGES[event.kind](event)


MESSAGES: Final[dict[EventKind, Callable[[Event], ToGateway]]] = {
    EventKind.STREAM_HANDSHAKE: lambda event: StreamHandshakeCame(
        event.slot, event.link_id, event.message
    ),
    EventKind.UDP_HANDSHAKE: lambda event: UdpHandshakeCame(event.endpoint, event.message),
    EventKind.CONTROL: lambda event: ControlCame(event.slot, event.index, event.message),
    EventKind.NO_SESSION: lambda event: SessionWanted(event.slot),
    EventKind.TOO_LONG: lambda event: PathTooNarrow(event.slot),
    EventKind.REFUSAL: lambda event: RefusalChanged(event.slot, event.index, event.error),
    EventKind.CONFIRMED: lambda event: KeyConfirmed(event.slot, event.link_id, event.index),
    EventKind.LINK_CLOSED: lambda event: LinkEnded(event.slot, event.link_id, CLOSED_BY_PEER),
    EventKind.LINK_FAULT: lambda event: LinkEnded(
        event.slot, event.link_id, "the peer broke the framing"
    ),
    EventKind.LINK_ERROR: lambda event: LinkEnded(event.slot, event.link_id, event.error),
}
