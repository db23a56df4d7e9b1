"""Noise's pattern IKpsk2 (Noise sections 7.5 and 9.4), over any prologue and payloads.

    <- s
    ...
    -> e, es, s, ss            ephemeral 32 | static 32 + 16 | payload + 16
    <- e, ee, se, psk          ephemeral 32 | payload + 16

A token of a DH is named after initiator's and responder's key: `se` is the DH of the
initiator's static and the responder's ephemeral key. Since this is a psk pattern, ephemeral keys
are mixed into the chaining key too.
"""

import msgspec

from fastun.session.keys import KeyPair
from fastun.session.protocol import CONSTRUCTION
from fastun.session.refusal import Refusal
from fastun.session.symmetric_state import SymmetricState


class FirstMessage(msgspec.Struct, frozen=True):
    """From the initiator."""

    ephemeral: bytes
    sealed_static: bytes
    sealed_payload: bytes


class SecondMessage(msgspec.Struct, frozen=True):
    """From the responder."""

    ephemeral: bytes
    sealed_payload: bytes


def _begin(prologue: bytes, responder_public: bytes) -> SymmetricState:
    return SymmetricState.initial(CONSTRUCTION).mix_hash(prologue).mix_hash(responder_public)


def write_first(
    own: KeyPair, ephemeral: KeyPair, responder_public: bytes, prologue: bytes, payload: bytes
) -> tuple[FirstMessage, SymmetricState]:
    """Return the initiator's message and the state that reads the answer."""
    state = _begin(prologue, responder_public)
    state = state.mix_hash(ephemeral.public).mix_key(ephemeral.public)  # e
    state = state.mix_dh(ephemeral.private, responder_public)  # es
    sealed_static, state = state.encrypt(own.public)  # s
    state = state.mix_dh(own.private, responder_public)  # ss
    sealed_payload, state = state.encrypt(payload)
    return FirstMessage(ephemeral.public, sealed_static, sealed_payload), state


def read_first(
    own: KeyPair, first: FirstMessage, prologue: bytes
) -> tuple[bytes, bytes, SymmetricState]:
    """Return the initiator's public key, the payload, and the state that writes the answer.

    HandshakeError LOW_ORDER_POINT, BAD_STATIC or BAD_TIMESTAMP (the payload does not open).
    """
    state = _begin(prologue, own.public)
    state = state.mix_hash(first.ephemeral).mix_key(first.ephemeral)  # e
    state = state.mix_dh(own.private, first.ephemeral)  # es
    static, state = state.decrypt_and_hash(first.sealed_static, Refusal.BAD_STATIC)  # s
    state = state.mix_dh(own.private, static)  # ss
    payload, state = state.decrypt_and_hash(first.sealed_payload, Refusal.BAD_TIMESTAMP)
    return static, payload, state


def write_second(
    state: SymmetricState,
    *,
    ephemeral: KeyPair,
    initiator_ephemeral: bytes,
    initiator_public: bytes,
    preshared_key: bytes,
    payload: bytes,
) -> tuple[SecondMessage, SymmetricState]:
    """Return the responder's message and the state that `split` takes.

    HandshakeError LOW_ORDER_POINT.
    """
    state = state.mix_hash(ephemeral.public).mix_key(ephemeral.public)  # e
    state = state.mix_dh(ephemeral.private, initiator_ephemeral)  # ee
    state = state.mix_dh(ephemeral.private, initiator_public)  # se
    state = state.mix_key_and_hash(preshared_key)  # psk
    sealed_payload, state = state.encrypt(payload)
    return SecondMessage(ephemeral.public, sealed_payload), state


def read_second(
    state: SymmetricState,
    own: KeyPair,
    ephemeral: KeyPair,
    second: SecondMessage,
    preshared_key: bytes,
) -> tuple[bytes, SymmetricState]:
    """Return the payload and the state that `split` takes.

    HandshakeError LOW_ORDER_POINT or BAD_PSK_OR_KEY (the payload does not open).
    """
    state = state.mix_hash(second.ephemeral).mix_key(second.ephemeral)  # e
    state = state.mix_dh(ephemeral.private, second.ephemeral)  # ee
    state = state.mix_dh(own.private, second.ephemeral)  # se
    state = state.mix_key_and_hash(preshared_key)  # psk
    return state.decrypt_and_hash(second.sealed_payload, Refusal.BAD_PSK_OR_KEY)
