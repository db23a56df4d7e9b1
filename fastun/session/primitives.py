"""The whitepaper's functions (section 5.4), by `cryptography`, PyNaCl and hashlib.

    Hash, Mac, Hmac   BLAKE2s (RFC 7693): 32 bytes; keyed, 16 bytes; in HMAC (RFC 2104), 32 bytes
    Kdf_n             HKDF (RFC 5869) over that HMAC: n keys of 32 bytes
    Aead              ChaCha20-Poly1305 (RFC 8439); nonce: 4 zero bytes, counter u64 LE
    Xaead             XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha); nonce: 24 random bytes
    DH                X25519 (RFC 7748)

Type 5 messages have AES-256-GCM (NIST SP 800-38D) in Aead's place.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.exceptions import CryptoError

from fastun.session.protocol import MAC_BYTES, TAG_BYTES
from fastun.session.refusal import HandshakeError, Refusal


class NotAuthenticError(Exception):
    """A ciphertext does not open under this key, nonce and associated data."""


def blake2s(data: bytes) -> bytes:
    """Hash: 32 bytes."""
    return hashlib.blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Mac: keyed BLAKE2s of 16 bytes; the key is of 1 to 32 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """Hmac: 32 bytes."""
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(n_keys: int, chaining_key: bytes, material: bytes) -> tuple[bytes, ...]:
    """Kdf_n: `n_keys` keys of 32 bytes (RFC 5869 with the chaining key as salt and no info)."""
    pseudorandom_key = hmac_blake2s(chaining_key, material)
    keys: list[bytes] = []
    previous = b""
    for number in range(1, n_keys + 1):
        previous = hmac_blake2s(pseudorandom_key, previous + bytes([number]))
        keys.append(previous)
    return tuple(keys)


def hkdf_expand(pseudorandom_key: bytes, info: bytes) -> bytes:
    """One key of 32 bytes: HKDF-Expand (RFC 5869 section 2.3) with L = 32, its first block."""
    return hmac_blake2s(pseudorandom_key, info + b"\x01")


def public_key(private: bytes) -> bytes:
    """DH-Pubkey: the X25519 public key of a private one, 32 bytes each."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def dh(private: bytes, public: bytes) -> bytes:
    """DH: the X25519 shared secret, 32 bytes. HandshakeError LOW_ORDER_POINT if it is all zero.

    The library checks that (RFC 7748 section 6.1) and raises ValueError.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        raise HandshakeError(Refusal.LOW_ORDER_POINT) from None


def nonce(counter: int) -> bytes:
    """Return the 12-byte nonce of `counter`: four zero bytes, then u64 little-endian."""
    return bytes(4) + counter.to_bytes(8, "little")


def seal(key: bytes, counter: int, plaintext: bytes, associated: bytes) -> bytes:
    """Aead: ciphertext and tag, 16 bytes longer than the plaintext."""
    return ChaCha20Poly1305(key).encrypt(nonce(counter), plaintext, associated)


def open_sealed(key: bytes, counter: int, ciphertext: bytes, associated: bytes) -> bytes:
    """Return what `seal` sealed, or raise NotAuthenticError."""
    try:
        return ChaCha20Poly1305(key).decrypt(nonce(counter), ciphertext, associated)
    except InvalidTag:
        raise NotAuthenticError from None


def seal_aes(key: bytes, counter: int, plaintext: bytes, associated: bytes) -> bytes:
    """As `seal`, by AES-256-GCM (NIST SP 800-38D)."""
    return AESGCM(key).encrypt(nonce(counter), plaintext, associated)


def open_aes(key: bytes, counter: int, ciphertext: bytes, associated: bytes) -> bytes:
    """Return what `seal_aes` sealed, or raise NotAuthenticError."""
    try:
        return AESGCM(key).decrypt(nonce(counter), ciphertext, associated)
    except InvalidTag:
        raise NotAuthenticError from None


def xopen(key: bytes, random_nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Xaead, opened: the plaintext, 16 bytes shorter. NotAuthenticError if it is not authentic.

    Sealed is in C only (csrc/session/xchacha.h).
    """
    if len(ciphertext) < TAG_BYTES:
        raise NotAuthenticError
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated, random_nonce, key)
    except CryptoError:
        raise NotAuthenticError from None
