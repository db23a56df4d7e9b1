"""A session's keys, and its data messages (whitepaper sections 5.4.5 and 5.4.6).

    type u32 LE | receiver u32 LE | counter u64 LE | ciphertext and 16-byte tag

The gateway seals only control messages here, and opens only a stream's hello; all others are the
C data path's. No associated data; the nonce is the counter. Type 5 has the same layout under
AES-256-GCM, whose key each directional key yields (csrc/session/session_key.h).
"""

from dataclasses import dataclass, field

from fastun.native import DATA_PADDING_BYTES as PADDING_BYTES
from fastun.native import Aead, SharedKeys
from fastun.native.secrets import NotAuthenticError, Secret
from fastun.session.messages import Data, MessageType
from fastun.session.protocol import REJECT_AFTER_MESSAGES
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.symmetric_state import SymmetricState

_TYPES = {Aead.CHACHA20_POLY1305: MessageType.DATA, Aead.AES_256_GCM: MessageType.DATA_AES}
_AEADS = {kind: aead for aead, kind in _TYPES.items()}

_IPV4, _IPV6 = 4, 6
_IPV4_HEADER_BYTES = 20
_IPV6_HEADER_BYTES = 40


@dataclass(slots=True, eq=False)
class SessionKeys:
    """One handshake's result: directional keys, and the indices both sides chose.

    `created_s` is CLOCK_BOOTTIME when the keys were derived: REJECT_AFTER_TIME counts from there.
    `shared`: where workers find them.
    """

    send: Secret
    receive: Secret
    local_index: int
    remote_index: int
    is_initiator: bool
    created_s: float
    shared: SharedKeys | None = field(default=None, repr=False)


def derive(
    symmetric: SymmetricState,
    local_index: int,
    remote_index: int,
    *,
    is_initiator: bool,
    created_s: float,
) -> SessionKeys:
    """Return the keys of a handshake that both messages have gone into."""
    to_responder, to_initiator = symmetric.split()
    send, receive = (to_responder, to_initiator) if is_initiator else (to_initiator, to_responder)
    return SessionKeys(send, receive, local_index, remote_index, is_initiator, created_s)


def of_lane(keys: SessionKeys, number: int, indices: tuple[int, int]) -> SessionKeys:
    """Return the keys of the session's lane of this number, from 1 (csrc/session/session_key.h).

    ``indices``: by which this side opens there, and the other. As old as the session.
    """
    send, receive = keys.send.of_lane(number), keys.receive.of_lane(number)
    return SessionKeys(send, receive, *indices, keys.is_initiator, keys.created_s)


def seal_data(
    directional_key: Secret,
    receiver_index: int,
    counter: int,
    plaintext: bytes,
    aead: Aead = Aead.CHACHA20_POLY1305,
) -> bytes:
    """Return a data message of 32 bytes and the plaintext's.

    The caller's counter must never repeat under a key. HandshakeError COUNTER_LIMIT when the key
    is used up.
    """
    if counter >= REJECT_AFTER_MESSAGES:
        raise HandshakeError(Refusal.COUNTER_LIMIT)
    ciphertext = directional_key.seal(aead, counter, plaintext)
    return Data(_TYPES[aead], receiver_index, counter, ciphertext).pack()


def open_data(directional_key: Secret, receiver_index: int, message: bytes) -> tuple[int, bytes]:
    """Return counter and plaintext of a data message of either type.

    That the counter is new is the caller's to check. HandshakeError BAD_LENGTH, BAD_TYPE,
    UNKNOWN_INDEX, COUNTER_LIMIT or BAD_TAG.
    """
    data = Data.unpack(message)
    if data.receiver != receiver_index:
        raise HandshakeError(Refusal.UNKNOWN_INDEX)
    if data.counter >= REJECT_AFTER_MESSAGES:
        raise HandshakeError(Refusal.COUNTER_LIMIT)
    try:
        return data.counter, directional_key.open(_AEADS[data.kind], data.counter, data.ciphertext)
    except NotAuthenticError:
        raise HandshakeError(Refusal.BAD_TAG) from None


def pad(packet: bytes) -> bytes:
    """Return an IP packet with zeros up to a multiple of 16 bytes."""
    return packet + bytes(-len(packet) % PADDING_BYTES)


def trim(padded: bytes) -> bytes | None:
    """Return the IP packet at the start of `padded`, by its own length; None if there is none.

    IPv4: total length at 2 (RFC 791 section 3.1). IPv6: payload length at 4 (RFC 8200 section 3).
    """
    version = padded[0] >> 4 if padded else 0
    if version == _IPV4:
        length = int.from_bytes(padded[2:4], "big")
        shortest = _IPV4_HEADER_BYTES
    elif version == _IPV6:
        length = _IPV6_HEADER_BYTES + int.from_bytes(padded[4:6], "big")
        shortest = _IPV6_HEADER_BYTES
    else:
        return None
    return padded[:length] if shortest <= length <= len(padded) else None
