"""Secrets in memory that C wipes, and a handshake's state: ``csrc/keys.h``.

Python holds addresses. What it gives as bytes (a private key of a file, a pre-shared key) it has
read itself.
"""

from __future__ import annotations

import errno
from typing import Any, Self

from fastun.native.library import checked, checked_pointer, ffi, lib
from fastun.native.vocabulary import DATA_TAG_BYTES, Aead

SECRET_BYTES = 32


class LowOrderError(ValueError):
    """The product of X25519 is zero: no one has a private key for that public key."""


class NotAuthenticError(Exception):
    """A ciphertext does not open under this key, counter and associated data."""


class Secret:
    """32 bytes that no Python object has: a private key, or the key of a session's direction."""

    __slots__ = ("pointer",)

    def __init__(self, pointer: Any) -> None:
        """Own what C has made."""
        self.pointer = ffi.gc(checked_pointer(pointer), lib.secret_free)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return a secret copy. ValueError: not 32 bytes."""
        return cls(lib.secret_new(_whole(content)))

    @classmethod
    def new_private(cls) -> Self:
        """Return a fresh private key of X25519. Raises OSError: there are no random numbers."""
        return cls(lib.secret_new_private())

    def of_lane(self, number: int) -> Secret:
        """Return the key of the same direction in a session's lane of this number, from 1."""
        return Secret(lib.secret_of_lane(self.pointer, number))

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return bool(lib.secret_is_equal(self.pointer, other.pointer))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show nothing."""
        return "Secret()"

    def seal(self, aead: Aead, counter: int, plaintext: bytes) -> bytes:
        """Return ciphertext and tag; the counter must never repeat. Raises OSError."""
        sealed = ffi.new("uint8_t[]", len(plaintext) + DATA_TAG_BYTES)
        # fmt: off
        checked(
            lib.secret_seal(self.pointer, aead, counter, plaintext, len(plaintext), sealed)
        )
        # fmt: on
        return bytes(ffi.buffer(sealed))

    def open(self, aead: Aead, counter: int, ciphertext: bytes) -> bytes:
        """Return what `seal` sealed, or raise NotAuthenticError."""
        text = ffi.new("uint8_t[]", max(len(ciphertext), DATA_TAG_BYTES))
        n = lib.secret_open(self.pointer, aead, counter, ciphertext, len(ciphertext), text)
        if n == -errno.EBADMSG:
            raise NotAuthenticError
        return bytes(ffi.buffer(text, checked(n)))


Key = bytes | Secret
"""32 bytes, secret or as they were read from a file."""


def public_key(private: Key) -> bytes:
    """Return the X25519 public key of a private one."""
    public = ffi.new("uint8_t[]", SECRET_BYTES)
    checked(lib.dh_public_key(_bytes_of(private), public))
    return bytes(ffi.buffer(public))


class NoiseState:
    """Noise's symmetric state. Each step returns the next, and leaves this one as it is."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: Any) -> None:
        """Own what C has made."""
        self._pointer = ffi.gc(checked_pointer(pointer), lib.noise_free)

    @classmethod
    def initial(cls, protocol_name: bytes) -> Self:
        """InitializeSymmetric, for a name of more than 32 bytes."""
        return cls(lib.noise_new(protocol_name, len(protocol_name)))

    @property
    def hash(self) -> bytes:
        """What both sides have seen; not a secret."""
        found = ffi.new("uint8_t[]", SECRET_BYTES)
        lib.noise_hash(self._pointer, found)
        return bytes(ffi.buffer(found))

    def mix_hash(self, data: bytes) -> Self:
        """MixHash: what both sides have seen."""
        return type(self)(lib.noise_mix_hash(self._pointer, data, len(data)))

    def mix_key(self, material: bytes) -> Self:
        """MixKey of what both sides know."""
        return type(self)(lib.noise_mix_key(self._pointer, material, len(material)))

    def mix_dh(self, private: Key, public: bytes) -> Self:
        """MixKey of the X25519 of both. LowOrderError."""
        pointer = lib.noise_mix_dh(self._pointer, _bytes_of(private), _whole(public))
        if pointer == ffi.NULL and ffi.errno == errno.EDOM:
            raise LowOrderError
        return type(self)(pointer)

    def mix_key_and_hash(self, preshared_key: bytes) -> Self:
        """MixKeyAndHash: the pre-shared key."""
        return type(self)(lib.noise_mix_key_and_hash(self._pointer, _whole(preshared_key)))

    def encrypt(self, plaintext: bytes) -> tuple[bytes, Self]:
        """EncryptAndHash: return the ciphertext and the state after it."""
        sealed = ffi.new("uint8_t[]", len(plaintext) + DATA_TAG_BYTES)
        pointer = lib.noise_encrypt(self._pointer, plaintext, len(plaintext), sealed)
        following = type(self)(pointer)
        return bytes(ffi.buffer(sealed)), following

    def decrypt(self, ciphertext: bytes) -> tuple[bytes, Self]:
        """DecryptAndHash: return the plaintext and the state after it. NotAuthenticError."""
        text = ffi.new("uint8_t[]", max(len(ciphertext), DATA_TAG_BYTES))
        pointer = lib.noise_decrypt(self._pointer, ciphertext, len(ciphertext), text)
        if pointer == ffi.NULL and ffi.errno == errno.EBADMSG:
            raise NotAuthenticError
        following = type(self)(pointer)
        return bytes(ffi.buffer(text, len(ciphertext) - DATA_TAG_BYTES)), following

    def split(self) -> tuple[Secret, Secret]:
        """Split: the keys initiator to responder, and responder to initiator."""
        return Secret(lib.noise_split(self._pointer, 0)), Secret(lib.noise_split(self._pointer, 1))


def hide_secrets() -> None:
    """Have this process's secrets in memory by memfd_secret. Raises OSError: there is none."""
    checked(lib.secret_memory_hide())


def use_x25519(function: int) -> None:
    """Have X25519 made by the C function at this address; 0: by libgcrypt's."""
    lib.dh_use(function)


def _whole(content: bytes) -> bytes:
    """Return a key of 32 bytes, of which C reads so many without a look. ValueError."""
    if len(content) != SECRET_BYTES:
        raise ValueError(f"a key of {len(content)} bytes")
    return bytes(content)


def _bytes_of(key: Key) -> Any:
    """Return what C reads a key's bytes from."""
    return lib.secret_bytes(key.pointer) if isinstance(key, Secret) else _whole(key)
