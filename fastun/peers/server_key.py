"""The key by which its peers know a server: a server that has lost it must not start with another.

Every client's file holds the server's public key. With another key the server answers none of them,
and nothing on either side says why. So the directory keeps the public key that the server has had,
and `serve` refuses to start without its private key or with another one, unless it has no peers.
`fastun key --forget` is how an administrator changes the key on purpose.
"""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING, Final

from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.peers.directory import PeerDirectory

# What is recorded after `fastun key --forget`: whatever key the next start has.
FORGOTTEN: Final = b""


def check(directory: PeerDirectory, public_key: bytes | None, state: Path, file: Path) -> None:
    """Raise ConfigError where the peers know the server by another key than `public_key`.

    None: it has no private key, and would make one in `file`.
    """
    recorded = directory.server_key()
    if recorded == FORGOTTEN or (public_key is not None and recorded in (None, public_key)):
        return
    server = directory.server()
    n_peers = directory.n_peers() + (len(server.peers) if server else 0)
    if n_peers == 0:
        return
    peers = f"the {n_peers:,} peers" if n_peers > 1 else "the peer"
    know = "know this server" if n_peers > 1 else "knows this server"
    known_as = f"{peers} of --state {state} {know} by {_named(recorded)}"
    on_purpose = f"run 'fastun key --forget --state {shlex.quote(str(state))}'"
    if public_key is None:
        raise ConfigError(
            f"key file '{file}': missing, but {known_as}; restore the file from a backup, or, to"
            f" start with a new key, which every client then needs, {on_purpose}"
        )
    raise ConfigError(
        f"private key: it belongs to the public key {_text(public_key)}, but {known_as}; restore"
        f" that key, or give this server a --state of its own, or, to change the key, which every"
        f" client then needs, {on_purpose}"
    )


def _named(key: bytes | None) -> str:
    return "its old key" if not key else f"the public key {_text(key)}"


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
