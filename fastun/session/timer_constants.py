"""The constants of a peer's timers as one value, so that a test can compress time."""

import secrets

import msgspec

from fastun.session import protocol

_RANDOM = secrets.SystemRandom()


class TimerConstants(msgspec.Struct, frozen=True):
    """Seconds and counts of messages and blocks; protocol.py says what they mean."""

    rekey_after_time_s: float = protocol.REKEY_AFTER_TIME_S
    reject_after_time_s: float = protocol.REJECT_AFTER_TIME_S
    rekey_attempt_time_s: float = protocol.REKEY_ATTEMPT_TIME_S
    rekey_timeout_s: float = protocol.REKEY_TIMEOUT_S
    keepalive_timeout_s: float = protocol.KEEPALIVE_TIMEOUT_S
    answer_time_s: float = protocol.ANSWER_TIME_S
    jitter_s: float = protocol.REKEY_JITTER_S
    rekey_after_messages: int = protocol.REKEY_AFTER_MESSAGES
    reject_after_messages: int = protocol.REJECT_AFTER_MESSAGES
    rekey_after_blocks: int = protocol.REKEY_AFTER_BLOCKS

    def jitter(self) -> float:
        """Return what is added to a timer, so that many do not fire at once."""
        return _RANDOM.uniform(0, self.jitter_s)

    @property
    def rekey_on_receive_s(self) -> float:
        """The age from which receiving rekeys: the last that leaves time to notice and retry."""
        return self.reject_after_time_s - self.keepalive_timeout_s - self.rekey_timeout_s

    @property
    def dead_after_s(self) -> float:
        """How long data may go unanswered: a live peer's keepalive would have come."""
        return self.keepalive_timeout_s + self.answer_time_s

    @property
    def zero_keys_after_s(self) -> float:
        """How long keys may stay in memory."""
        return self.reject_after_time_s * 3
