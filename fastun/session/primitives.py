"""The whitepaper's functions (section 5.4), by PyNaCl and hashlib.

    Hash, Mac, Hmac   BLAKE2s (RFC 7693): 32 bytes; keyed, 16 bytes; in HMAC (RFC 2104), 32 bytes
    Kdf_n             HKDF (RFC 5869) over that HMAC: n keys of 32 bytes
    Aead              ChaCha20-Poly1305 (RFC 8439); nonce: 4 zero bytes, counter u64 LE
    Xaead             XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha); nonce: 24 random bytes
    DH                X25519 (RFC 7748)

Type 5 messages have AES-256-GCM (NIST SP 800-38D) in Aead's place, where libsodium has it: its own
is made of the processor's instructions (`has_aes`).
"""

import functools
import hashlib
import hmac
from collections.abc import Callable

from nacl import bindings as sodium
from nacl.exceptions import CryptoError, UnavailableError
from nacl.exceptions import RuntimeError as SodiumError

from fastun.session.protocol import KEY_BYTES, MAC_BYTES, TAG_BYTES
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


def nonce(counter: int) -> bytes:
    """Return the 12-byte nonce of `counter`: four zero bytes, then u64 little-endian."""
    return bytes(4) + counter.to_bytes(8, "little")


def seal(key: bytes, counter: int, plaintext: bytes, associated: bytes) -> bytes:
    """Aead: ciphertext and tag, 16 bytes longer than the plaintext."""
    return sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
        bytes(plaintext), associated, nonce(counter), key
    )


def open_sealed(key: bytes, counter: int, ciphertext: bytes, associated: bytes) -> bytes:
    """Return what `seal` sealed, or raise NotAuthenticError."""
    return _opened(
        sodium.crypto_aead_chacha20poly1305_ietf_decrypt,
        ciphertext,
        associated,
        nonce(counter),
        key,
    )


def seal_aes(key: bytes, counter: int, plaintext: bytes, associated: bytes) -> bytes:
    """As `seal`, by AES-256-GCM (NIST SP 800-38D). Only where `has_aes`."""
    return sodium.crypto_aead_aes256gcm_encrypt(bytes(plaintext), associated, nonce(counter), key)


def open_aes(key: bytes, counter: int, ciphertext: bytes, associated: bytes) -> bytes:
    """Return what `seal_aes` sealed, or raise NotAuthenticError, as always without `has_aes`."""
    return _opened(
        sodium.crypto_aead_aes256gcm_decrypt, ciphertext, associated, nonce(counter), key
    )


@functools.cache
def has_aes() -> bool:
    """Return whether the library has AES-256-GCM on this processor."""
    try:
        seal_aes(bytes(KEY_BYTES), 0, b"", b"")
    except UnavailableError:
        return False
    return True


def xopen(key: bytes, random_nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Xaead, opened: the plaintext, 16 bytes shorter. NotAuthenticError if it is not authentic.

    Sealed is in C only (csrc/session/xchacha.h).
    """
    return _opened(
        sodium.crypto_aead_xchacha20poly1305_ietf_decrypt, ciphertext, associated, random_nonce, key
    )


def _opened(
    decrypt: Callable[[bytes, bytes | None, bytes, bytes], bytes],
    ciphertext: bytes,
    associated: bytes,
    nonce_bytes: bytes,
    key: bytes,
) -> bytes:
    if len(ciphertext) < TAG_BYTES:  # which the library takes for granted
        raise NotAuthenticError
    try:
        return decrypt(bytes(ciphertext), associated, nonce_bytes, key)
    except CryptoError:
        raise NotAuthenticError from None
