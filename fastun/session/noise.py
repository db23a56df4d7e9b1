"""The handshake (whitepaper sections 5.4.2 to 5.4.5): one message each way, then both have keys.

    initiator                                    responder
    initiate()           -- initiation (1) -->   consume_initiation(): who is it?
                                                 the caller looks the peer up and asks its
                                                 InitiationGuard; nothing was answered so far
    consume_response()   <-- response (2) --     respond()
    first data message   -- data (4) -->         opens: only now may the responder send

Functions without state; what one side has to keep between its two steps is a frozen value. What
cannot be accepted raises HandshakeError with its reason and changes nothing.
"""

import secrets

import msgspec

from fastun.session import clock, cookies, ikpsk2, keys, tai64n, transport
from fastun.session.ikpsk2 import FirstMessage, SecondMessage
from fastun.session.keys import KeyPair
from fastun.session.messages import Initiation, Response
from fastun.session.protocol import IDENTIFIER, NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.symmetric_state import SymmetricState
from fastun.session.transport import SessionKeys

_INDEX_BITS = 32


class InitiatorState(msgspec.Struct, frozen=True):
    """What the initiator keeps until the response: the next initiation replaces it."""

    local_index: int
    ephemeral: KeyPair
    symmetric: SymmetricState


class ConsumedInitiation(msgspec.Struct, frozen=True):
    """An initiation whose sender holds `peer_public`'s private key; it may yet be a replay."""

    peer_public: bytes
    timestamp: bytes
    remote_index: int
    remote_ephemeral: bytes
    symmetric: SymmetricState


def random_index() -> int:
    """Return a random session index; that no other session has it is the caller's to check."""
    return secrets.randbits(_INDEX_BITS)


def initiate(
    own: KeyPair,
    peer_public: bytes,
    *,
    cookie: bytes | None = None,
    local_index: int | None = None,
    ephemeral: KeyPair | None = None,
    timestamp: bytes | None = None,
) -> tuple[bytes, InitiatorState]:
    """Return an initiation of 148 bytes and what reads its response.

    `cookie` is what the peer's cookie reply gave, if it asked for one. Index, ephemeral pair and
    TAI64N timestamp are made afresh unless given. HandshakeError LOW_ORDER_POINT if `peer_public`
    is none that can be spoken to.
    """
    index = random_index() if local_index is None else local_index
    ephemeral = keys.ephemeral_pair() if ephemeral is None else ephemeral
    first, symmetric = ikpsk2.write_first(
        own, ephemeral, peer_public, IDENTIFIER, tai64n.now() if timestamp is None else timestamp
    )
    body = Initiation(index, first.ephemeral, first.sealed_static, first.sealed_payload).pack()
    message = cookies.append_macs(body, peer_public, cookie)
    return message, InitiatorState(index, ephemeral, symmetric)


def consume_initiation(own: KeyPair, message: bytes) -> ConsumedInitiation:
    """Return the proven sender of an initiation.

    HandshakeError BAD_LENGTH, BAD_TYPE, BAD_MAC1, LOW_ORDER_POINT, BAD_STATIC or BAD_TIMESTAMP.
    The caller refuses UNKNOWN_PEER, and REPLAYED_TIMESTAMP or TOO_SOON through InitiationGuard.
    """
    initiation = Initiation.unpack(message)
    if not cookies.has_valid_mac1(message, own.public):
        raise HandshakeError(Refusal.BAD_MAC1)
    first = FirstMessage(
        initiation.ephemeral, initiation.sealed_static, initiation.sealed_timestamp
    )
    peer_public, timestamp, symmetric = ikpsk2.read_first(own, first, IDENTIFIER)
    return ConsumedInitiation(
        peer_public, timestamp, initiation.sender, initiation.ephemeral, symmetric
    )


def respond(
    initiation: ConsumedInitiation,
    preshared_key: bytes = NO_PRESHARED_KEY,
    *,
    cookie: bytes | None = None,
    local_index: int | None = None,
    ephemeral: KeyPair | None = None,
    now_s: float | None = None,
) -> tuple[bytes, SessionKeys]:
    """Return a response of 92 bytes and the session's keys, not yet to be sent under.

    Whether the initiator knows the pre-shared key shows only in its first data message. `now_s`
    (CLOCK_BOOTTIME) is when the session begins to age. HandshakeError LOW_ORDER_POINT.
    """
    index = random_index() if local_index is None else local_index
    ephemeral = keys.ephemeral_pair() if ephemeral is None else ephemeral
    second, symmetric = ikpsk2.write_second(
        initiation.symmetric,
        ephemeral=ephemeral,
        initiator_ephemeral=initiation.remote_ephemeral,
        initiator_public=initiation.peer_public,
        preshared_key=preshared_key,
        payload=b"",
    )
    remote_index = initiation.remote_index
    body = Response(index, remote_index, second.ephemeral, second.sealed_payload).pack()
    message = cookies.append_macs(body, initiation.peer_public, cookie)
    created_s = clock.boottime_s() if now_s is None else now_s
    session = transport.derive(
        symmetric, index, remote_index, is_initiator=False, created_s=created_s
    )
    return message, session


def consume_response(
    own: KeyPair,
    initiator: InitiatorState,
    message: bytes,
    preshared_key: bytes = NO_PRESHARED_KEY,
    *,
    now_s: float | None = None,
) -> SessionKeys:
    """Return the session's keys; the first data message under them is the responder's proof.

    A state yields one session: forget it afterwards. HandshakeError BAD_LENGTH, BAD_TYPE, BAD_MAC1,
    UNKNOWN_INDEX, LOW_ORDER_POINT or BAD_PSK_OR_KEY; the state is then as good as before.
    """
    response = Response.unpack(message)
    if not cookies.has_valid_mac1(message, own.public):
        raise HandshakeError(Refusal.BAD_MAC1)
    if response.receiver != initiator.local_index:
        raise HandshakeError(Refusal.UNKNOWN_INDEX)
    second = SecondMessage(response.ephemeral, response.sealed_empty)
    _, symmetric = ikpsk2.read_second(
        initiator.symmetric, own, initiator.ephemeral, second, preshared_key
    )
    return transport.derive(
        symmetric,
        initiator.local_index,
        response.sender,
        is_initiator=True,
        created_s=clock.boottime_s() if now_s is None else now_s,
    )
