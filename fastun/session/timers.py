"""One peer's timers (whitepaper section 6): a state machine that sends nothing and knows no clock.

The gateway reports what happened and when, asks `due` what is to be done now, and sleeps until
`next_deadline`. Times are CLOCK_BOOTTIME seconds (clock.boottime_s). Events may be reported late,
as from a table that is read now and then, but in the order in which they happened.

    what                                                            when
    rekey, the session's initiator only                             it sends, 120 s after the
                                                                    handshake, or receives, 165 s
    rekey, either side                                              2^60 messages sent, or 3 * 2^32
                                                                    blocks under AES-256-GCM
    handshake: packets wait without a session                       at once
    handshake: data was sent and nothing came back                  12 s + jitter after it
    handshake: the path is doubted (link/datagram/liveness.py)      at once
    handshake again: no response                                    5 s + jitter; at most one each
                                                                    5 s, given up after 90 s
    handshake again, the first two on a path that is doubted        1 s, then 2 s, + jitter
    handshake: the peer asks again, so our response did not arrive  5 s after our last initiation

An initiation that arrives does not prove that anything of ours does: only what answers us is such a
proof. So a response puts off an initiation of our own (its session may make it needless), but not
once more while it goes unconfirmed.

    keepalive: the responder waits for the first proof              at once
    keepalive: data came and nothing was sent back                  10 s after it
    keepalive, persistent                                           the interval after any message
    the session may not be used any more                            180 s after the handshake
    all keys are wiped                                              540 s after the last handshake
"""

from collections.abc import Callable
from enum import Enum

import msgspec

from fastun.session.timer_constants import TimerConstants

# Between two initiations where the usual 5 s make no sense. A responder takes one each 20 ms
# (initiation_guard.py), counted where they arrive.
PAUSE_MIN_S = 0.25

# Between the first initiations on a path that is doubted. Longer than most round trips: a responder
# keeps the keys of the last one only.
_DOUBTED_PAUSES_S = (1.0, 2.0)


class Action(Enum):
    """What `due` asks for."""

    INITIATE = "send a handshake initiation"
    KEEPALIVE = "send an empty data message"
    EXPIRE_SESSION = "use the current session no more"
    GIVE_UP = "stop the handshake and drop what waits for it"
    ZERO_KEYS = "wipe the keys of all sessions and handshakes"


class _Session(msgspec.Struct, gc=False):
    created_s: float
    is_initiator: bool
    counter: int = 0
    rekeyed_on_receive: bool = False


class PeerTimers(msgspec.Struct, eq=False):
    """The timers of one peer. Not thread-safe. ``jitter`` returns up to `constants.jitter_s`."""

    constants: TimerConstants = msgspec.field(default_factory=TimerConstants)
    persistent_keepalive_s: float | None = None
    jitter: Callable[[], float] | None = None  # by default that of the constants
    _session: _Session | None = None
    _derived_s: float | None = None  # of the session that the initiator has to confirm
    # The handshake that is wanted or under way.
    _wanted_at: float | None = None
    _attempts_since_s: float | None = None
    _last_handshake_sent_s: float = float("-inf")
    _pause_s: float = float("nan")  # after that, before the next
    _pauses_s: tuple[float, ...] = ()  # after the next ones, where they are shorter
    unanswered_since_s: float | None = None  # the first of the data without an answer
    # Deadlines; None: not running.
    _retry_at: float | None = None
    _dead_at: float | None = None
    _keepalive_at: float | None = None
    _persistent_at: float | None = None
    _expire_at: float | None = None
    _zero_at: float | None = None

    def __post_init__(self) -> None:
        """Start without a session."""
        self._pause_s = self.constants.rekey_timeout_s

    def set_persistent_keepalive(self, interval_s: float | None, now_s: float) -> None:
        """Send a keepalive whenever nothing was sent or received for `interval_s`; None: never."""
        if interval_s == self.persistent_keepalive_s:
            return
        self.persistent_keepalive_s = interval_s
        self._persistent_at = None
        self._put_off_persistent(now_s)

    # What happened

    def on_start(self, now_s: float) -> None:
        """Learn that the peer can be reached; a persistent keepalive wants its session at once."""
        if self.persistent_keepalive_s is not None:
            self._want_handshake(now_s)

    def on_data_queued(self, now_s: float) -> None:
        """Learn that a packet found no session to go through; the 90 s begin anew."""
        if not self.has_session(now_s):  # one may have come since
            self._want_handshake(now_s)

    def on_path_doubted(self, now_s: float) -> None:
        """Note that the peer may be unreachable; a handshake finds out, at once."""
        self._pause_s = min(PAUSE_MIN_S, self.constants.rekey_timeout_s)
        self._pauses_s = _DOUBTED_PAUSES_S
        self._want_handshake(now_s)

    def on_data_sent(self, now_s: float, counter: int = 0, n_blocks: int = 0) -> None:
        """Learn that data was sent; `counter` is the session's last.

        `n_blocks` is how many the session has sealed under AES-256-GCM.
        """
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s
        if self._dead_at is None:
            self._dead_at = now_s + self.constants.dead_after_s + self._jitter_s()
        self._any_sent(now_s)
        self.rekey_on_send(now_s, counter, n_blocks)

    def on_keepalive_sent(self, now_s: float, counter: int = 0) -> None:
        """Note that an empty data message was sent; it needs no answer."""
        self._any_sent(now_s)
        self.rekey_on_send(now_s, counter)

    def on_data_received(self, now_s: float) -> None:
        """Learn that a data message with content was opened."""
        self._any_received(now_s)
        self.rekey_on_receive(now_s)
        if self._keepalive_at is None:
            self._keepalive_at = now_s + self.constants.keepalive_timeout_s

    def on_keepalive_received(self, now_s: float) -> None:
        """Learn that an empty data message was opened."""
        self._any_received(now_s)
        self.rekey_on_receive(now_s)

    def on_initiation_sent(self, now_s: float) -> None:
        """Learn of an initiation that `due` did not ask for, as on a connection just made."""
        if self._attempts_since_s is None:
            self._attempts_since_s = now_s
        self._initiated(now_s)

    def on_response_sent(self, now_s: float) -> None:
        """Learn that a session was derived, to be used from the initiator's first data on."""
        is_unanswered = self._is_response_unanswered(now_s)
        self._derived_s = now_s
        self._zero_at = now_s + self.constants.zero_keys_after_s
        self._any_sent(now_s)
        if is_unanswered:  # our own may get through another way
            if self._attempts_since_s is None:
                self._want_handshake(now_s)
            return
        self._last_handshake_sent_s, self._pause_s = now_s, self.constants.rekey_timeout_s
        # Our own initiation waits: this session may make it needless.
        allowed_at = now_s + self.constants.rekey_timeout_s
        if self._wanted_at is not None:
            self._wanted_at = allowed_at
        if self._retry_at is not None:
            self._retry_at = max(self._retry_at, allowed_at)

    def on_handshake_complete(self, now_s: float, *, is_initiator: bool) -> None:
        """Learn that the response was accepted, or the initiator's first data message opened."""
        created_s = now_s
        if not is_initiator and self._derived_s is not None:
            created_s = self._derived_s
        self._derived_s = None
        self._session = _Session(created_s, is_initiator)
        self._expire_at = created_s + self.constants.reject_after_time_s
        self._zero_at = created_s + self.constants.zero_keys_after_s
        self._end_attempts()
        self._any_received(now_s)
        if is_initiator:
            self._keepalive_at = now_s  # the proof, unless data is sent first

    def on_sessions_dropped(self) -> None:
        """Learn that all sessions are gone, with the connection or the worker that held them."""
        self._session = self._derived_s = self.unanswered_since_s = None
        self._dead_at = self._keepalive_at = self._expire_at = self._zero_at = None
        self._end_attempts()

    def on_keys_lost(self) -> None:
        """Learn that all sessions are gone against both sides' will: the next handshake may begin.

        The pause after the last one keeps a peer from being asked over and over; here it has been
        answered, and its answer was lost with a worker. Another worker may follow in a moment.
        """
        self.on_sessions_dropped()
        self._pause_s = min(PAUSE_MIN_S, self.constants.rekey_timeout_s)

    # What is to be done

    def due(self, now_s: float) -> list[Action]:
        """Return what is to be done now. Each is said once: it counts as done, sent or not."""
        actions: list[Action] = []
        if _is_past(self._expire_at, now_s):
            self._expire_at = self._session = None
            actions.append(Action.EXPIRE_SESSION)
        if _is_past(self._zero_at, now_s):
            self._zero_at = self._session = self._derived_s = None
            actions.append(Action.ZERO_KEYS)
        if _is_past(self._dead_at, now_s):
            self._dead_at = None
            self._want_handshake(now_s)
        if self._is_keepalive_due(now_s):
            actions.append(Action.KEEPALIVE)
        actions += self._due_handshake(now_s)
        return actions

    def next_deadline(self) -> float | None:
        """Return when `due` has to be asked again, unless an event comes first; None for never."""
        deadlines = [
            self._expire_at,
            self._zero_at,
            self._dead_at,
            self._keepalive_at,
            self._persistent_at,
            self._retry_at,
            self._wanted_at,
        ]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def has_session(self, now_s: float) -> bool:
        """Whether there is a session that data may be sent under."""
        return (
            self._session is not None
            and now_s - self._session.created_s < self.constants.reject_after_time_s
            and self._session.counter < self.constants.reject_after_messages
        )

    def is_trying(self) -> bool:
        """Whether a handshake is wanted or under way."""
        return self._attempts_since_s is not None

    # The handshake

    def _is_response_unanswered(self, now_s: float) -> bool:
        """Whether the last response was not confirmed, and the peer is about to ask again."""
        long_ago_s = 3 * self.constants.rekey_timeout_s  # it may have stopped asking
        return self._derived_s is not None and now_s - self._derived_s < long_ago_s

    def _jitter_s(self) -> float:
        return (self.jitter or self.constants.jitter)()

    def _want_handshake(self, now_s: float) -> None:
        self._wanted_at = max(now_s, self._last_handshake_sent_s + self._pause_s)
        self._attempts_since_s = now_s

    def _initiated(self, now_s: float) -> None:
        self._wanted_at, self._last_handshake_sent_s = None, now_s
        self._pause_s = min([self.constants.rekey_timeout_s, *self._pauses_s[:1]])
        self._pauses_s = self._pauses_s[1:]
        self._retry_at = now_s + self._pause_s + self._jitter_s()
        self._any_sent(now_s)

    def _end_attempts(self) -> None:
        self._wanted_at = self._attempts_since_s = self._retry_at = None
        self._pauses_s = ()

    def _due_handshake(self, now_s: float) -> list[Action]:
        if self._wanted_at is not None:
            if now_s < self._wanted_at:
                return []
        elif not _is_past(self._retry_at, now_s):
            return []
        elif self._has_tried_enough(now_s):
            return self._give_up(now_s)
        self._initiated(now_s)
        return [Action.INITIATE]

    def _has_tried_enough(self, now_s: float) -> bool:
        since_s = self._attempts_since_s
        return since_s is not None and now_s - since_s >= self.constants.rekey_attempt_time_s

    def _give_up(self, now_s: float) -> list[Action]:
        self._end_attempts()
        self._keepalive_at = None
        if self._zero_at is None:
            self._zero_at = now_s + self.constants.zero_keys_after_s
        return [Action.GIVE_UP]

    def rekey_on_send(self, now_s: float, counter: int, n_blocks: int = 0) -> None:
        """Renew an old session; also what further lanes have sent by its keys counts here alone."""
        session = self._session
        if session is None:
            return
        session.counter = max(session.counter, counter)
        age_s = now_s - session.created_s
        is_old = age_s >= self.constants.rekey_after_time_s
        # Right after a handshake the peer table may still show the previous session's blocks.
        has_blocks = age_s < self.constants.rekey_timeout_s or (
            n_blocks < self.constants.rekey_after_blocks
        )
        is_used_up = session.counter >= self.constants.rekey_after_messages or not has_blocks
        if is_used_up or (session.is_initiator and is_old):
            self._want_handshake(now_s)

    def rekey_on_receive(self, now_s: float) -> None:
        """Do so for what was received, also in further lanes."""
        session = self._session
        if session is None or not session.is_initiator or session.rekeyed_on_receive:
            return
        if now_s - session.created_s >= self.constants.rekey_on_receive_s:
            # Once: what comes in now cannot be answered by more than one attempt after another.
            session.rekeyed_on_receive = True
            self._want_handshake(now_s)

    # Keepalives

    def _any_sent(self, now_s: float) -> None:
        self._keepalive_at = None
        self._put_off_persistent(now_s)

    def _any_received(self, now_s: float) -> None:
        self._dead_at = self.unanswered_since_s = None
        self._put_off_persistent(now_s)

    def _put_off_persistent(self, now_s: float) -> None:
        if self.persistent_keepalive_s is not None:
            self._persistent_at = now_s + self.persistent_keepalive_s

    def _is_keepalive_due(self, now_s: float) -> bool:
        is_due = False
        if _is_past(self._keepalive_at, now_s):
            is_due = True
            self._keepalive_at = None
        if _is_past(self._persistent_at, now_s):
            is_due = True
            self._put_off_persistent(now_s)
        if is_due and not self.has_session(now_s):
            self._want_handshake(now_s)  # a keepalive is for a session that lives on
            return False
        return is_due


def _is_past(deadline: float | None, now_s: float) -> bool:
    return deadline is not None and now_s >= deadline
