"""`fastun keygen` and `fastun pubkey`; and how a secret reaches stdout."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

import click

from fastun.errors import RuntimeFailure
from fastun.session import keys

_STDIN_BYTES_MAX = 1024  # A key is 44 characters; what is longer is another file.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keygen() -> None:
    """Print a new private key."""
    print_secret(keys.format_key(keys.generate_private()) + "\n")


def pubkey() -> None:
    """Print the public key of the private key on stdin; ConfigError when there is none."""
    text = sys.stdin.buffer.read(_STDIN_BYTES_MAX).decode("latin-1").strip()
    click.echo(keys.format_key(keys.public_of(keys.parse_key(text, "stdin"))))


def print_secret(text: str) -> None:
    """Write `text` to stdout, whole or RuntimeFailure; a file there is closed to other users.

    A shell makes `> FILE` readable by all, and what is in there must not be, not for a moment.
    """
    try:
        with contextlib.suppress(ValueError):  # No descriptor: sys.stdout was replaced.
            mode = os.fstat(sys.stdout.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & _OTHERS:
                os.fchmod(sys.stdout.fileno(), 0o600)
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again at exit, with a traceback.
        with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise RuntimeFailure(f"stdout: {error.strerror}; nothing was changed") from None
