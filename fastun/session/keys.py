"""Keys as people hold them: made, written in base64, kept in files that only their owner reads.

A key is 32 bytes. Its text is standard base64 with padding (RFC 4648 section 4): 44 characters, as
`wg genkey` and `wg pubkey` write it. No complaint here ever shows a key's text, since a private key
pasted into the wrong field is still a secret.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastun import private_file, service_user, state_file
from fastun.errors import ConfigError, RuntimeFailure, quote
from fastun.native import secrets as secrets_in_c
from fastun.native.secrets import Key, Secret
from fastun.session import primitives
from fastun.session.protocol import KEY_BYTES
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from pathlib import Path

_TEXT_CHARS = 44
_PROBE_PRIVATE = bytes(range(KEY_BYTES))  # any private key finds the low-order points


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 pair, 32 bytes each. An ephemeral private key is secret, one of a file is not."""

    private: Key = field(repr=False)
    public: bytes


def generate_private() -> bytes:
    """Return a fresh private key, clamped (RFC 7748 section 5), as other tools will show it."""
    key = bytearray(secrets.token_bytes(KEY_BYTES))
    key[0] &= 0b1111_1000
    key[-1] &= 0b0111_1111
    key[-1] |= 0b0100_0000
    return bytes(key)


def generate_preshared() -> bytes:
    """Return a fresh pre-shared key."""
    return secrets.token_bytes(KEY_BYTES)


def public_of(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return primitives.public_key(private)


def pair_of(private: bytes) -> KeyPair:
    """Return the pair of a private key."""
    return KeyPair(private, public_of(private))


def ephemeral_pair() -> KeyPair:
    """Return a fresh pair for one handshake."""
    private = Secret.new_private()
    return KeyPair(private, secrets_in_c.public_key(private))


def format_key(key: bytes) -> str:
    """Return the 44 characters of a key."""
    return base64.b64encode(key).decode("ascii")


def format_private(pair: KeyPair) -> str:
    """Return a private key as in a file. TypeError: an ephemeral one is in no file."""
    if not isinstance(pair.private, bytes):
        raise TypeError("an ephemeral private key has no text")
    return format_key(pair.private)


def parse_key(text: str, field_name: str) -> bytes:
    """Return the 32 bytes of a key's text; ConfigError names `field_name`.

    Only the one spelling that `format_key` gives: two texts for one key would be two peers.
    """
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        key = b""
    if len(text) != _TEXT_CHARS or len(key) != KEY_BYTES or format_key(key) != text:
        raise ConfigError(
            f"{field_name}: not a key; give the {_TEXT_CHARS} characters of base64 "
            "that fastun keygen and fastun pubkey print"
        )
    return key


def parse_public(text: str, field_name: str) -> bytes:
    """Return the 32 bytes of a public key; ConfigError also for one that no session can have."""
    key = parse_key(text, field_name)
    try:
        primitives.dh(_PROBE_PRIVATE, key)
    except HandshakeError:
        raise ConfigError(
            f"{field_name}: no private key has this public key; ask the peer for the right one"
        ) from None
    return key


def load_private(path: Path) -> bytes:
    """Return the private or pre-shared key in a file: 44 characters and a line end.

    ConfigError in one line that names the path if the file cannot be read, can be read or replaced
    by others, or holds no key.
    """
    name = f"key file {quote(str(path))}"
    try:
        # Not blocking, lest a FIFO by that name hold up the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Looked at through the descriptor: the path could mean another file by now.
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{name}: not a file; name the file that holds the key")
            private_file.check(path, status, name)
            content = os.read(descriptor, _TEXT_CHARS + 3)  # a line end, and that there is more
        finally:
            os.close(descriptor)
    except OSError as error:
        is_refused = isinstance(error, PermissionError)
        advice = service_user.how_to_let_it_read(path) if is_refused else ""
        raise ConfigError(f"{name}: {error.strerror}{advice}") from None
    if not content:
        raise ConfigError(f"{name}: not a key, it is empty; restore it from a backup")
    return parse_key(content.decode("latin-1").rstrip("\r\n"), name)


def load_or_make_private(path: Path) -> bytes:
    """Return the private key in the file; when there is no file it is made, with mode 0600.

    Raises ConfigError when others can read the file or it holds no key, and RuntimeFailure when it
    cannot be written.
    """
    if not os.path.lexists(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeFailure(
                f"{path.parent}: {error.strerror}; run as root, or choose another --state"
            ) from None
        # That it exists by now is another process's doing, and as good.
        with contextlib.suppress(ConfigError):
            store_private(path, generate_private())
    return load_private(path)


def store_private(path: Path, private: bytes) -> None:
    """Write a key's text to a new file of mode 0600, whole or not at all.

    A key that is there already stays: to lose one loses every peer that knows it. ConfigError if
    there is one, RuntimeFailure if the file cannot be written; both name the path.
    """
    try:
        state_file.make(path, f"{format_key(private)}\n".encode())
    except FileExistsError:
        raise ConfigError(
            f"key file {quote(str(path))} already exists; remove it first to replace the key"
        ) from None
    except OSError as error:
        raise RuntimeFailure(f"key file {quote(str(path))}: {error.strerror}") from None
