"""`fastun peer export` and `fastun peer import`: all peers as lines of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastun import input_file
from fastun.command import streams
from fastun.command.fleet import counted
from fastun.command.keys import print_secret
from fastun.command.peers import existing, tell_gateway
from fastun.errors import ConfigError
from fastun.fleet import transfer
from fastun.fleet.opened import opened

if TYPE_CHECKING:
    from pathlib import Path


def export(state: Path) -> None:
    """Print all peers of the directory. Raises FastunError."""
    with existing(state) as directory:
        peers = directory.peers()
    print_secret("".join(transfer.written(peers)))
    click.echo(f"{counted(len(peers))}; the lines hold pre-shared keys, keep them secret", err=True)


def import_(file: Path | None, state: Path) -> None:
    """Add the peers of a file, or of stdin: all or none. Raises FastunError."""
    where, content = str(file or "stdin"), _content(file)
    peers = transfer.read(content, where)
    with opened(state) as directory:
        n_added, n_same = transfer.add_all(directory, peers)
        there = f", {n_same:,} are there already" if n_same else ""
        click.echo(f"{counted(n_added)} added{there}", err=True)
        if n_added:
            tell_gateway(directory)


def _content(file: Path | None) -> bytes:
    limit = transfer.BYTES_MAX + 1
    if file is None:
        return streams.read(limit)
    try:
        with input_file.opened(file) as descriptor:
            return input_file.read(descriptor, limit)
    except OSError as error:
        raise ConfigError(f"FILE: cannot read {file}: {error.strerror}") from None
