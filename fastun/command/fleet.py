"""What `fastun fleet` does: tables are prepared, a server joins a fleet, or leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastun.config.fleet import check_library, parse_directory
from fastun.errors import ConfigError, one_line
from fastun.fleet.opened import join as join_fleet
from fastun.peers.store import FILE_NAME, PeerStore

if TYPE_CHECKING:
    from pathlib import Path


def prepare(url: str) -> None:
    """Make the tables, or bring them up to date, and say which. Raises FastunError."""
    from fastun.fleet import schema  # noqa: PLC0415 (the library may not be there)

    before, now = schema.prepare(_checked(url))
    done = f"updated from version {before} to {now}" if before else f"created, version {now}"
    click.echo(f"tables {done if before != now else f'up to date, version {now}'}", err=True)


def join(url: str, state: Path) -> None:
    """Move the peers of this server to the fleet's directory. Raises FastunError."""
    url = _checked(url)
    with PeerStore(state) as store:
        n_added, n_same = join_fleet(store, url)
    there = f", {n_same:,} were there" if n_same else ""
    said = f"{counted(n_added)} moved{there}; --state {state} is of the fleet now"
    click.echo(one_line(said), err=True)


def leave(state: Path) -> None:
    """Make the copy the server's own directory. Raises FastunError."""
    if not (state / FILE_NAME).exists():
        raise ConfigError(f"--state {state}: contains no peer directory; give the server's --state")
    with PeerStore(state) as store:
        url = store.original()
        if url is None:
            raise ConfigError(f"--state {state}: belongs to no fleet; nothing to leave")
        store.remember_original(None)
        n_peers = store.n_peers()
    click.echo(f"left {url}; what it had, {counted(n_peers)}, is this server's own now", err=True)


def counted(n_peers: int) -> str:
    """Return how many, in words."""
    return f"{n_peers:,} peer{'s' * (n_peers != 1)}"


def _checked(url: str) -> str:
    parse_directory(url, "URL")
    check_library("URL")
    return url
