"""The peer directory as a serving gateway uses it, and by the rights of this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from fastun.config.served import server_of
from fastun.fleet.opened import settle
from fastun.peers import server_key
from fastun.peers.store import FILE_NAME, PeerStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastun.config.settings import ServeSettings
    from fastun.peers.directory import Changes
    from fastun.peers.peer import Peer
    from fastun.peers.terms import Usage

# How long a look at the directory may keep its caller. A change takes milliseconds, or some tens on
# a slow disk; what takes longer is seen by the next look.
_LOOK_S: Final = 0.05


class ServedPeers(Protocol):
    """The peers of a gateway that serves. All raise FastunError. As PeerDirectory."""

    def announce(self, settings: ServeSettings) -> None:
        """Have the commands that add peers know of this gateway. Blocks; any thread."""

    def version(self) -> int:
        """As PeerDirectory."""

    def changes_since(self, version: int) -> Changes | None:
        """As PeerDirectory."""

    def peers(self) -> tuple[Peer, ...]:
        """As PeerDirectory."""

    def usage(self) -> dict[str, Usage]:
        """As PeerDirectory."""

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """As PeerDirectory."""

    def close(self) -> None:
        """Let it go."""


class PeersSource(Protocol):
    """Where they are. All raise FastunError."""

    def check_key(self, settings: ServeSettings, public_key: bytes | None) -> None:
        """Raise ConfigError where the peers know the server by another key (server_key.py)."""

    def open(self, settings: ServeSettings, public_key: bytes) -> ServedPeers:
        """Open the directory, and announce the gateway there."""


class OwnSource:
    """PeersSource of a directory that this process may read and write."""

    def check_key(self, settings: ServeSettings, public_key: bytes | None) -> None:
        """As PeersSource."""
        if (settings.state_dir / FILE_NAME).exists():
            with PeerStore(settings.state_dir) as store:
                server_key.check(store, public_key, settings.state_dir, settings.private_key_file)

    def open(self, settings: ServeSettings, public_key: bytes) -> ServedPeers:
        """As PeersSource."""
        return OwnPeers(settings, public_key)


class OwnPeers:
    """ServedPeers of a directory that this process may write to. One thread, but for `announce`."""

    def __init__(
        self, settings: ServeSettings, public_key: bytes, *, any_thread: bool = False
    ) -> None:
        """Open it, and announce the gateway. Raises FastunError.

        By ``any_thread`` it may be used, by one at a time.
        """
        self._public_key = public_key
        self._store = PeerStore(settings.state_dir, any_thread=any_thread)
        with contextlib.ExitStack() as undo:
            undo.callback(self._store.close)
            settle(self._store, settings.fleet)
            self._store.remember_server(server_of(settings, public_key))
            undo.pop_all()
        self._store.wait_at_most(_LOOK_S)

    def announce(self, settings: ServeSettings) -> None:
        """As ServedPeers."""
        with PeerStore(settings.state_dir) as store:
            store.remember_server(server_of(settings, self._public_key))

    def version(self) -> int:
        """As ServedPeers."""
        return self._store.version()

    def changes_since(self, version: int) -> Changes | None:
        """As ServedPeers."""
        return self._store.changes_since(version)

    def peers(self) -> tuple[Peer, ...]:
        """As ServedPeers."""
        return self._store.peers()

    def usage(self) -> dict[str, Usage]:
        """As ServedPeers."""
        return self._store.usage()

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """As ServedPeers."""
        self._store.remember_usage(usage)

    def close(self) -> None:
        """As ServedPeers."""
        self._store.close()
