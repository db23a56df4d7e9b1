"""`fastun keygen`, `fastun pubkey` and `fastun key`; and how a secret reaches stdout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING

import click

from fastun.command import streams
from fastun.config.settings import PRIVATE_KEY_FILE_NAME
from fastun.errors import ConfigError, RuntimeFailure
from fastun.fleet.opened import opened
from fastun.peers import server_key
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

_STDIN_BYTES_MAX = 1024  # A key is 44 characters; what is longer is another file.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keygen() -> None:
    """Print a new private key."""
    print_secret(keys.format_key(keys.generate_private()) + "\n")


def pubkey() -> None:
    """Print the public key of the private key on stdin; ConfigError when there is none."""
    text = streams.read(_STDIN_BYTES_MAX).decode("latin-1").strip()
    click.echo(keys.format_key(keys.public_of(keys.parse_key(text, "stdin"))))


def server_key_of(state: Path) -> None:
    """Print the public key by which peers know the server; ConfigError when there is none."""
    recorded = None
    if (state / FILE_NAME).exists():
        with PeerStore(state) as directory:
            recorded = directory.server_key()
    if not recorded:
        file = state / PRIVATE_KEY_FILE_NAME
        if not os.path.lexists(file):
            raise ConfigError(
                f"--state {state}: contains no server's key; start 'fastun serve' first, or give"
                " the server's --state"
            )
        recorded = keys.public_of(keys.load_private(file))
    click.echo(keys.format_key(recorded))


def forget_server_key(state: Path) -> None:
    """Let the next gateway have any key; ConfigError where there is no peer directory."""
    if not (state / FILE_NAME).exists():
        raise ConfigError(f"--state {state}: contains no peer directory; give the server's --state")
    with opened(state) as directory:
        directory.remember_server_key(server_key.FORGOTTEN)
        n_peers = directory.n_peers()
    click.echo(
        "the next 'fastun serve' uses the private key that it has, and makes one if there is none;"
        f" {n_peers:,} client{'s' * (n_peers != 1)} then need{'s' * (n_peers == 1)} that public key"
        " ('fastun key' prints it)",
        err=True,
    )


def print_secret(text: str) -> None:
    """Write `text` to stdout, whole or RuntimeFailure; a file there is closed to other users.

    A shell makes `> FILE` readable by all, and what is in there must not be, not for a moment. One
    that a process has opened by then gets nothing.
    """
    try:
        with contextlib.suppress(ValueError):  # No descriptor: sys.stdout was replaced.
            mode = os.fstat(sys.stdout.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & _OTHERS:
                _close_to_others(sys.stdout.fileno())
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        streams.finish()
        raise RuntimeFailure(f"stdout: {streams.why(error)}; nothing was changed") from None


def _close_to_others(file: int) -> None:
    """Let no other user read a file; RuntimeFailure if a process has opened it already.

    One that did so before the mode was changed would read what is written later. The kernel gives
    a write lease only on a file that is open nowhere else (fcntl(2)).
    """
    os.fchmod(file, 0o600)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        raise RuntimeFailure(
            "stdout: another process has the file open and would read the key, so nothing was"
            " changed; remove it, and run 'umask 077' first"
        ) from None
    except OSError:  # this file system has none
        return
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
