"""Which directory it is that a state directory has: its own, or the copy of a fleet's."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from fastun.errors import ConfigError
from fastun.fleet.as_owner import as_owner
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.config.fleet import Fleet
    from fastun.peers.directory import PeerDirectory


@contextlib.contextmanager
def opened(state: Path) -> Iterator[PeerDirectory]:
    """Yield the directory that commands change: the fleet's, where `state` has a copy of one.

    Raises FastunError.
    """
    with PeerStore(state) as store:
        url = store.original()
        if url is None:
            yield store
            return
        from fastun.config.fleet import check_library  # noqa: PLC0415 (for a fleet alone)
        from fastun.fleet import connection  # noqa: PLC0415 (as above)
        from fastun.fleet.postgres import PostgresDirectory  # noqa: PLC0415 (as above)

        check_library(f"--state {state}")
        connection.load()
        with as_owner(store.path):
            directory = PostgresDirectory(url, store)
        with directory:
            yield directory


def settle(store: PeerStore, fleet: Fleet | None) -> None:
    """Make the store of a gateway that starts what its settings want; ConfigError where it is not.

    Peers are never dropped by a line in the settings, and a copy is never served as if it were the
    directory itself.
    """
    original, state = store.original(), shlex.quote(str(store.path.parent))
    if fleet is None:
        if original is not None:
            raise ConfigError(
                f"{store.path}: a copy of {original}, but the configuration has no"
                f" fleet.directory; add it, or run 'fastun fleet leave --state {state}', which"
                " makes these peers this server's own"
            )
    elif original is None and (n_peers := store.n_peers()):
        raise ConfigError(
            f"{store.path}: has {n_peers} peers of its own, and fleet.directory names another"
            f" directory; move them there with 'fastun fleet join {fleet.directory} --state"
            f" {state}'"
        )
    elif original != fleet.directory:
        store.remember_original(fleet.directory)


def join(store: PeerStore, url: str) -> tuple[int, int]:
    """Add this server's peers to the fleet's directory, and be a copy of it from now on.

    Return how many were added, and how many were there. All or none; raises FastunError.
    """
    from fastun.fleet.postgres import PostgresDirectory  # noqa: PLC0415 (for a fleet alone)
    from fastun.fleet.transfer import add_all  # noqa: PLC0415 (as above)

    with PostgresDirectory(url, store) as directory, store.changes():
        key = store.server_key()
        if key:
            directory.claim_key(key)
        added = add_all(directory, [] if store.original() else store.peers())
        endpoints = store.public_endpoints()
        if endpoints and not directory.public_endpoints():
            directory.remember_public_endpoints(endpoints)
        store.remember_original(url)
    return added
