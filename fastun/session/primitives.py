"""The whitepaper's functions (section 5.4) that touch no secret of a session: PyNaCl and hashlib.

    Hash, Mac   BLAKE2s (RFC 7693): 32 bytes; keyed, 16 bytes
    Xaead       XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha); nonce: 24 random bytes
    DH          X25519 (RFC 7748), of a key pair that lasts

The rest is C's: csrc/session/noise.c, dh.c, hash.c.
"""

import hashlib

from nacl import bindings as sodium
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as SodiumError

from fastun.native.secrets import NotAuthenticError
from fastun.session.protocol import KEY_BYTES, MAC_BYTES, TAG_BYTES
from fastun.session.refusal import HandshakeError, Refusal


def blake2s(data: bytes) -> bytes:
    """Hash: 32 bytes."""
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Mac: keyed BLAKE2s of 16 bytes; the key is of 1 to 32 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def public_key(private: bytes) -> bytes:
    """DH-Pubkey: the X25519 public key of a private one, 32 bytes each."""
    return sodium.crypto_scalarmult_base(_key(private))


def dh(private: bytes, public: bytes) -> bytes:
    """DH: the X25519 shared secret, 32 bytes. HandshakeError LOW_ORDER_POINT if it is all zero.

    The library checks that (RFC 7748 section 6.1).
    """
    try:
        return sodium.crypto_scalarmult(_key(private), _key(public))
    except SodiumError:
        raise HandshakeError(Refusal.LOW_ORDER_POINT) from None


def _key(key: bytes) -> bytes:
    """Return a key of 32 bytes, of which the library reads so many without a look. ValueError."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes")
    return bytes(key)


def xopen(key: bytes, random_nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Xaead, opened: the plaintext, 16 bytes shorter. NotAuthenticError if it is not authentic.

    Sealed is in C only (csrc/session/xchacha.h).
    """
    if len(ciphertext) < TAG_BYTES:  # which the library takes for granted
        raise NotAuthenticError
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes(ciphertext), associated, random_nonce, key
        )
    except CryptoError:
        raise NotAuthenticError from None
