"""A peer's timers: what holds whatever happens, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastun.session.timers import PAUSE_MIN_S, Action, PeerTimers

PAUSES_S = st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 30), st.floats(0, 600))
EVENTS = st.sampled_from(
    [
        "data_sent",
        "keepalive_sent",
        "data_received",
        "keepalive_received",
        "data_queued",
        "initiation_sent",
        "response_sent",
        "complete_as_initiator",
        "complete_as_responder",
        "sessions_dropped",
        "keys_lost",
        "path_doubted",
        "nothing",
    ]
)


# Pauses between initiations: 5 s, and less on a path that is doubted.
NO_DOUBT_S = [5.0]
DOUBTED_S = [1.0, 2.0, 5.0]


class Gateway:
    """Tells a peer's timers what happens, does what is due, and checks each thing that is asked."""

    def __init__(self, persistent_keepalive_s: float | None) -> None:
        self.timers = PeerTimers(persistent_keepalive_s=persistent_keepalive_s)
        self.now_s = 1000.0
        self.initiated_s = float("-inf")
        self.pause_s = 5.0
        self.pauses_s = NO_DOUBT_S  # after the next ones
        self.derived_s: float | None = None
        self.created_s: float | None = None
        self.timers.on_start(self.now_s)

    def hear(self, event: str) -> None:
        if event == "complete_as_initiator":
            self.timers.on_handshake_complete(self.now_s, is_initiator=True)
            self.created_s, self.derived_s = self.now_s, None
        elif event == "complete_as_responder":
            if self.derived_s is not None:
                self.timers.on_handshake_complete(self.now_s, is_initiator=False)
                self.created_s, self.derived_s = self.derived_s, None
        elif event == "sessions_dropped":
            self.timers.on_sessions_dropped()
            self.created_s = self.derived_s = None
        elif event == "keys_lost":
            self.timers.on_keys_lost()
            self.created_s = self.derived_s = None
            self.pause_s = PAUSE_MIN_S
        elif event != "nothing":
            if event == "path_doubted":
                self.pause_s, self.pauses_s = PAUSE_MIN_S, DOUBTED_S
            getattr(self.timers, f"on_{event}")(self.now_s)
        if event == "initiation_sent":
            self._initiated()
        if event == "response_sent":
            self.derived_s = self.now_s

    def do_what_is_due(self, *, sends: bool) -> None:
        # What is done can ask for more at once: a keepalive at 120 s for a rekey. Never for ever.
        for _ in range(3):
            for action in self.timers.due(self.now_s):
                self._do(action, sends=sends)
            deadline = self.timers.next_deadline()
            if deadline is None or deadline > self.now_s:
                return
        raise AssertionError("the gateway would spin")

    def _do(self, action: Action, *, sends: bool) -> None:
        if action is Action.INITIATE:
            assert self.now_s - self.initiated_s >= self.pause_s - 1e-6
            self._initiated()
        elif action is Action.KEEPALIVE:
            assert self.created_s is not None
            assert self.now_s - self.created_s < 180
            if sends:
                self.timers.on_keepalive_sent(self.now_s)
        elif action is Action.EXPIRE_SESSION:
            assert self.created_s is not None
            assert self.now_s - self.created_s >= 180 - 1e-6
        elif action is Action.ZERO_KEYS:
            self.created_s = self.derived_s = None

    def _initiated(self) -> None:
        self.initiated_s = self.now_s
        self.pause_s, *later = self.pauses_s
        self.pauses_s = later or NO_DOUBT_S

    def sleep(self, pause_s: float) -> None:
        """Sleep to the next deadline, but no longer than `pause_s`, as ppoll does."""
        deadline = self.timers.next_deadline()
        until_s = self.now_s + pause_s
        self.now_s = until_s if deadline is None else min(until_s, max(deadline, self.now_s))


@given(
    st.sampled_from([None, 0.5, 25.0]),
    st.lists(st.tuples(EVENTS, PAUSES_S, st.booleans(), st.booleans()), max_size=80),
)
def test_whatever_happens_the_rules_of_the_protocol_hold(
    persistent_s: float | None, story: list[tuple[str, float, bool, bool]]
) -> None:
    """No initiation before its time, keepalives only in a session, an end to each, and no spin."""
    gateway = Gateway(persistent_s)
    for event, pause_s, is_late, sends in story:
        gateway.hear(event)
        if not is_late:
            gateway.do_what_is_due(sends=sends)
        gateway.sleep(pause_s)
    gateway.do_what_is_due(sends=True)


@given(st.lists(st.tuples(EVENTS, PAUSES_S), max_size=40))
def test_a_peer_that_is_left_alone_comes_to_rest_without_keys(
    story: list[tuple[str, float]],
) -> None:
    gateway = Gateway(None)
    for event, pause_s in story:
        gateway.hear(event)
        gateway.now_s += pause_s
    for _ in range(300):
        gateway.do_what_is_due(sends=True)
        deadline = gateway.timers.next_deadline()
        if deadline is None:
            break
        gateway.now_s = max(gateway.now_s, deadline)
    assert gateway.timers.next_deadline() is None
    assert not gateway.timers.has_session(gateway.now_s)


# 5 s and its jitter, and once 5 s for a response that may make ours needless.
SILENT_MAX_S = 5 + 1 / 3 + 5


@given(
    st.lists(st.floats(0.02, 30), max_size=60),
    st.sampled_from(["data_queued", "data_sent", "path_doubted", "initiation_sent"]),
)
def test_initiations_that_arrive_never_keep_ours_back_for_long(
    pauses_s: list[float], begins_with: str
) -> None:
    """The peer gets nothing of ours, so it asks and asks: only an answer would prove a path."""
    gateway = Gateway(None)
    if begins_with != "data_queued":  # which finds no session
        gateway.hear("initiation_sent")
        gateway.hear("complete_as_initiator")
    gateway.now_s += 20
    gateway.hear(begins_with)
    asked_s = gateway.now_s + (12.34 if begins_with == "data_sent" else 0.0)
    arrivals_s = [gateway.now_s + sum(pauses_s[: n + 1]) for n in range(len(pauses_s))]
    for arrival_s in arrivals_s:
        while gateway.now_s < arrival_s:
            gateway.sleep(arrival_s - gateway.now_s)
            gateway.do_what_is_due(sends=True)
            if gateway.timers.is_trying():
                asked_s = max(asked_s, gateway.initiated_s)
                assert gateway.now_s - asked_s <= SILENT_MAX_S
            elif gateway.now_s > asked_s:
                asked_s = gateway.now_s
        gateway.hear("response_sent")
