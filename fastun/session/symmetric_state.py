"""Noise's symmetric state (Noise section 5.2): the chaining key, the hash, the present key.

Frozen: each step returns the next state, so that a message refused half way leaves nothing behind.
A key seals once in the patterns used here, so the nonce is always 0 and is not kept.
"""

from dataclasses import dataclass, field, replace
from typing import Self

from fastun.session import primitives
from fastun.session.refusal import HandshakeError, Refusal


@dataclass(frozen=True, slots=True)
class SymmetricState:
    """32 bytes each: ck, h and k of the specification; k is empty before the first MixKey."""

    chaining_key: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def initial(cls, protocol_name: bytes) -> Self:
        """InitializeSymmetric, for a name of more than 32 bytes."""
        name_hash = primitives.blake2s(protocol_name)
        return cls(chaining_key=name_hash, hash=name_hash)

    def mix_hash(self, data: bytes) -> Self:
        """MixHash: what both sides have seen."""
        return replace(self, hash=primitives.blake2s(self.hash + data))

    def mix_key(self, material: bytes) -> Self:
        """MixKey: what both sides know."""
        chaining_key, key = primitives.kdf(2, self.chaining_key, material)
        return replace(self, chaining_key=chaining_key, key=key)

    def mix_key_and_hash(self, material: bytes) -> Self:
        """MixKeyAndHash: the pre-shared key."""
        chaining_key, tau, key = primitives.kdf(3, self.chaining_key, material)
        return replace(self, chaining_key=chaining_key, key=key).mix_hash(tau)

    def encrypt_and_hash(self, plaintext: bytes) -> tuple[bytes, Self]:
        """EncryptAndHash: return the ciphertext and the state after it."""
        ciphertext = primitives.seal(self.key, 0, plaintext, self.hash)
        return ciphertext, self.mix_hash(ciphertext)

    def decrypt_and_hash(self, ciphertext: bytes, otherwise: Refusal) -> tuple[bytes, Self]:
        """DecryptAndHash: return the plaintext and the state after it.

        HandshakeError with `otherwise` if the ciphertext does not open.
        """
        try:
            plaintext = primitives.open_sealed(self.key, 0, ciphertext, self.hash)
        except primitives.NotAuthenticError:
            raise HandshakeError(otherwise) from None
        return plaintext, self.mix_hash(ciphertext)

    def split(self) -> tuple[bytes, bytes]:
        """Split: the keys initiator to responder, and responder to initiator."""
        to_responder, to_initiator = primitives.kdf(2, self.chaining_key, b"")
        return to_responder, to_initiator
