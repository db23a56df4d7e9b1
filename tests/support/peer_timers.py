"""Timers of a peer by a fake clock."""

from __future__ import annotations

from fastun.session.timers import Action, PeerTimers

INITIATE, KEEPALIVE, GIVE_UP = Action.INITIATE, Action.KEEPALIVE, Action.GIVE_UP
EXPIRE, ZERO = Action.EXPIRE_SESSION, Action.ZERO_KEYS

START = 1000.0  # the clock counts from boot, not from 0


def quiet(*, persistent_s: float | None = None) -> PeerTimers:
    """Timers without jitter."""
    return PeerTimers(persistent_keepalive_s=persistent_s, jitter=lambda: 0.0)


def with_session(*, is_initiator: bool = True, persistent_s: float | None = None) -> PeerTimers:
    """Timers with a session since START that both sides have confirmed."""
    timers = quiet(persistent_s=persistent_s)
    if is_initiator:
        timers.on_initiation_sent(START)
    else:
        timers.on_response_sent(START)
    timers.on_handshake_complete(START, is_initiator=is_initiator)
    timers.on_keepalive_sent(START)
    timers.on_keepalive_received(START)
    return timers


def run(timers: PeerTimers, until_s: float) -> list[tuple[float, Action]]:
    """Sleep from deadline to deadline; return what was due when, counted from START."""
    done = []
    previous_s = 0.0
    while (deadline := timers.next_deadline()) is not None and deadline <= until_s:
        assert deadline > previous_s, "the gateway would spin"
        previous_s = deadline
        actions = timers.due(deadline)
        done += [(round(deadline - START, 6), action) for action in actions]
        for action in actions:
            if action is KEEPALIVE:
                timers.on_keepalive_sent(deadline)
    return done


def kinds(done: list[tuple[float, Action]]) -> list[Action]:
    return [action for _, action in done]


def answer(timers: PeerTimers, at_s: float) -> list[Action]:
    """Return what a data message sent at `at_s` asks for."""
    timers.on_data_sent(at_s)
    return timers.due(at_s)
