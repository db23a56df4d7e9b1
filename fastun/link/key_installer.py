"""A session's keys on their way to the workers that seal and open under them."""

from __future__ import annotations

from fastun.lane.messages import AddReceivingKey, SetSendingKey
from fastun.lane.session_lane import SessionLane
from fastun.native import Aead, KeyName, SendingCounter, has_aes_instructions
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timer_constants import TimerConstants
from fastun.session.transport import SessionKeys

_NS_PER_S = 1_000_000_000


class KeyInstaller:
    """Tells tun-reader and link-reader. ``constants`` say how old a key may become."""

    def __init__(self, lane: SessionLane, constants: TimerConstants) -> None:
        """Install in ``lane``."""
        self._lane = lane
        self._constants = constants

    def add_receiving(
        self, slot: int, keys: SessionKeys, counter: int, *, is_known: bool = False
    ) -> None:
        """Have the link-reader open under ``keys``, by either cipher that this side can offer.

        Counters under ``counter`` are used up; ``is_known``: and what a link-reader has opened that
        was killed. It answers KeyAdded. The keys are in the lane's
        region for as long as ``keys`` is referred to. HandshakeError: there is no place left.
        """
        ciphers = [Aead.CHACHA20_POLY1305]
        ciphers += [Aead.AES_256_GCM] if has_aes_instructions() else []
        self._lane.send(
            "link-reader",
            AddReceivingKey(
                slot,
                self._shared(slot, keys),
                tuple(ciphers),
                keys.local_index,
                counter,
                self._expires_ns(keys),
                is_known,
            ),
        )

    def use_for_sending(
        self, slot: int, keys: SessionKeys, aead: Aead, counter: SendingCounter
    ) -> None:
        """Have the tun-reader seal under ``keys`` from now on, and what ``counter`` says."""
        name, expires_ns = self._shared(slot, keys), self._expires_ns(keys)
        message = SetSendingKey(slot, name, aead, keys.remote_index, counter.source, expires_ns)
        self._lane.send("tun-reader", message)

    def _expires_ns(self, keys: SessionKeys) -> int:
        return int((keys.created_s + self._constants.reject_after_time_s) * _NS_PER_S)

    def _shared(self, slot: int, keys: SessionKeys) -> KeyName:
        """Return the name of the keys in the region, where they are from now on."""
        if keys.shared is None:
            try:
                keys.shared = self._lane.keys_of(slot).put(keys.send, keys.receive)
            except OSError:
                raise HandshakeError(Refusal.TOO_MANY) from None
        return keys.shared.name
