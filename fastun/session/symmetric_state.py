"""Noise's symmetric state (Noise section 5.2): the chaining key, the hash, the present key.

All of it is in C, in secret memory (csrc/session/noise.c), and so are the products of X25519 and
the keys that come of it; Python calls the steps. X25519 itself is libsodium's where that can be
had, by its address: its result goes where C says.
"""

from typing import Final, Self

from fastun.native.secrets import (
    Key,
    LowOrderError,
    NoiseState,
    NotAuthenticError,
    use_x25519,
)
from fastun.session.refusal import HandshakeError, Refusal

try:
    from nacl._sodium import ffi as _sodium_ffi  # type: ignore[import-not-found]
    from nacl._sodium import lib as _sodium
except ImportError:  # another PyNaCl: libgcrypt's takes five times as long
    _address = 0
else:
    _function = _sodium_ffi.addressof(_sodium, "crypto_scalarmult")
    _address = int(_sodium_ffi.cast("uintptr_t", _function))

LIBSODIUM_X25519: Final = _address
"""Where libsodium has its function; 0: it cannot be had."""

use_x25519(LIBSODIUM_X25519)


class SymmetricState(NoiseState):
    """What a message that is refused half way leaves as it was: each step returns the next."""

    __slots__ = ()

    def mix_dh(self, private: Key, public: bytes) -> Self:
        """MixKey of a DH. HandshakeError LOW_ORDER_POINT if it is zero."""
        try:
            return super().mix_dh(private, public)
        except LowOrderError:
            raise HandshakeError(Refusal.LOW_ORDER_POINT) from None

    def decrypt_and_hash(self, ciphertext: bytes, otherwise: Refusal) -> tuple[bytes, Self]:
        """DecryptAndHash: return the plaintext and the state after it.

        HandshakeError with `otherwise` if the ciphertext does not open.
        """
        try:
            return self.decrypt(ciphertext)
        except NotAuthenticError:
            raise HandshakeError(otherwise) from None
