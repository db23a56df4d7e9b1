"""Where gateway and workers have the keys of sessions: ``csrc/keys.h``."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from fastun.native.library import checked, checked_pointer, ffi, lib
from fastun.native.secrets import Secret, hide_secrets
from fastun.native.vocabulary import ROLES

#: Those that seal and open.
KEY_ROLES: Final = ("tun-reader", "link-reader")


class KeyName(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Which keys of a region: what a message to a worker has in the place of keys."""

    place: int
    generation: int


class SharedKeys:
    """A session's keys in the region: wiped there when nothing refers to this any more."""

    __slots__ = ("_region", "name")

    def __init__(self, region: KeyRegion, name: KeyName) -> None:
        """Own what has this name in the region."""
        self._region = region
        self.name = name

    def __del__(self) -> None:
        """Wipe."""
        self._region.wipe(self.name)


class KeyRegion:
    """The gateway's end: it alone writes. ``secret_error`` says why the memory is not secret."""

    def __init__(self, pointer: Any) -> None:
        """Use :meth:`create`."""
        self._pointer = pointer
        self.is_secret = bool(lib.key_region_is_secret(pointer))
        error = int(lib.key_region_secret_errno(pointer))
        if self.is_secret:
            hide_secrets()
        self.secret_error = os.strerror(error) if error else ""

    @classmethod
    def create(cls, *, secret: bool) -> KeyRegion:
        """Make an empty one; ``secret``: by memfd_secret, if the kernel has it. Raises OSError."""
        return cls(checked_pointer(lib.key_region_create(secret)))

    def fd(self, role: str) -> int:
        """Return the descriptor for one of KEY_ROLES, which stays the region's."""
        return int(lib.key_region_fd(self._pointer, ROLES.index(role)))

    def put(self, send: Secret, receive: Secret) -> SharedKeys:
        """Give a session's keys a place. Raises OSError: there is none left."""
        name = ffi.new("struct key_name *")
        keys = (lib.secret_bytes(secret.pointer) for secret in (send, receive))
        checked(lib.key_region_put(self._pointer, *keys, name))
        return SharedKeys(self, KeyName(name.place, name.generation))

    def wipe(self, name: KeyName) -> None:
        """Wipe the keys of this name, if they are there."""
        if self._pointer != ffi.NULL:
            native = ffi.new("struct key_name *", (name.place, name.generation))
            lib.key_region_wipe(self._pointer, native)

    def n_used(self) -> int:
        """Return how many sessions have their keys here."""
        return int(lib.key_region_n_used(self._pointer))

    def close(self) -> None:
        """Wipe all."""
        lib.key_region_free(self._pointer)
        self._pointer = ffi.NULL


class KeyArea:
    """A worker's end: the keys that its role needs, which it can read."""

    def __init__(self, fd: int, *, is_secret: bool = False) -> None:
        """Map it; the descriptor stays the caller's, and is no longer needed. Raises OSError.

        ``is_secret``: what this process makes of the keys is to be in such memory as well.
        """
        if is_secret:
            hide_secrets()
        self.pointer = checked_pointer(lib.key_area_attach(fd))
