"""The control socket, RUN_DIR/INTERFACE.sock: how ``fastun status`` asks a running gateway.

    u32 big-endian length | msgpack map   request {"command": one of COMMANDS, …}
    u32 big-endian length | msgpack map   reply   {"status": {…}} or another field of Reply,
                                                  or {"error": "…", "exit_code": 1 or 2}

"peers-changed" makes the gateway read the peer directory before it replies, with the status too.
"reload" makes it apply what has changed in its file; it answers when that is in effect.
"capture", with what is wanted, brings descriptors with its reply (capture_service.py); the capture
lasts as long as the connection. "drain" begins that or cancels it, and is answered by the status. A
connection carries one request and one reply. The protocol and its client are here, the gateway's
side is in fastun.status.server.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Annotated

import msgspec

from fastun import codec
from fastun.bounded_server import EXCHANGE_TIMEOUT_S
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.host.run_directory import is_alive as is_alive  # noqa: PLC0414 (as the next)
from fastun.host.run_directory import socket_path as socket_path  # noqa: PLC0414 (of the protocol)
from fastun.status.reply import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A request is a few dozen bytes; this leaves room for later commands with arguments.
REQUEST_BYTES_MAX = 64 * 1024

# A reply is some 2 KiB a lane and half a KiB a peer, of which there may be thousands. What
# announces more than this is not a gateway.
REPLY_BYTES_MAX = 16 * 1024 * 1024

COMMANDS = ("status", "peers-changed", "reload", "capture", "drain")

# A large file takes a second to read, a host's resolver some to be changed.
RELOAD_TIMEOUT_S = 60.0

_PREFIX = struct.Struct(">I")

# A capture has a ring for each worker.
_FDS_MAX = 64


class CaptureWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a capture is to have: of one peer, or of all; so many bytes of each packet."""

    stages: tuple[str, ...]
    peer: str | None
    snap_length: int


class DrainWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In which time all peers are to have left; None: they may stay."""

    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] | None


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client asks; ``capture`` and ``drain`` go with these commands."""

    command: str
    capture: CaptureWanted | None = None
    drain: DrainWanted | None = None


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload did, a line each: applied, to be had by a restart, not taken by the system.

    ``remarks`` are what the file says that is hardly meant.
    """

    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class CaptureBegun(msgspec.Struct, frozen=True):
    """A capture that runs; its descriptors are rings of ``ring_bytes`` each.

    ``layout`` says how to read them (fastun.native.capture).
    """

    mode: str
    ring_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 28)]
    layout: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the gateway answers: one of these; ``exit_code`` goes with an error."""

    status: Status | None = None
    reloaded: Reloaded | None = None
    capture: CaptureBegun | None = None
    error: str | None = None
    exit_code: int = 1


class TooLongError(ValueError):
    """The other side announces more bytes than are allowed."""

    def __init__(self, n_bytes: int) -> None:
        """Announced are ``n_bytes``."""
        super().__init__(f"{n_bytes} bytes")
        self.n_bytes = n_bytes


def send(connection: socket.socket, body: bytes) -> None:
    """Send one message. Raises OSError."""
    connection.sendall(_PREFIX.pack(len(body)) + body)


def receive(connection: socket.socket, bytes_max: int) -> bytes:
    """Return one message's body. Raises OSError, and TooLongError for more than ``bytes_max``."""
    (length,) = _PREFIX.unpack(_receive_exactly(connection, _PREFIX.size))
    if length > bytes_max:
        raise TooLongError(length)
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < n_bytes:
        piece = connection.recv(n_bytes - len(received))
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        received += piece
    return bytes(received)


# -- the client -------------------------------------------------------------------------------


def request(path: Path, command: str, timeout_s: float = EXCHANGE_TIMEOUT_S) -> Status:
    """Send ``command`` to the gateway at ``path`` and return its status.

    Raises RuntimeFailure when there is none, or it does not answer in ``timeout_s``.
    """
    reply = _reply(path, command, timeout_s)
    if reply.status is None:
        raise _refused(path, reply)
    return reply.status


def reload(path: Path) -> Reloaded:
    """Have the gateway at ``path`` apply what has changed in its file; return what that was.

    Raises ConfigError for a fault in the file, and RuntimeFailure: nothing has changed then.
    """
    reply = _reply(path, "reload", RELOAD_TIMEOUT_S)
    if reply.reloaded is not None:
        return reply.reloaded
    raise _fault(path, reply)


def capture(path: Path, wanted: CaptureWanted) -> tuple[socket.socket, CaptureBegun, list[int]]:
    """Begin a capture of the gateway at ``path``, which lasts until the connection is closed.

    The descriptors of its rings are the caller's. Raises ConfigError for what cannot be captured,
    and RuntimeFailure.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        with _explained(path):
            connection.settimeout(EXCHANGE_TIMEOUT_S)
            connection.connect(str(path))
            send(connection, codec.pack(Request("capture", wanted)))
            # The descriptors come with the first byte.
            first, fds, _, _ = socket.recv_fds(connection, 1, _FDS_MAX)
            for fd in fds:
                undo.callback(os.close, fd)
            rest = _receive_exactly(connection, _PREFIX.size - len(first))
            (length,) = _PREFIX.unpack(first + rest)
            body = _receive_exactly(connection, min(length, REQUEST_BYTES_MAX))
            reply = codec.unpack_printable(body, Reply, REQUEST_BYTES_MAX)
        if reply.capture is None:
            raise _fault(path, reply)
        undo.pop_all()
        return connection, reply.capture, fds


def drain(path: Path, timeout_s: float | None) -> Status:
    """Have the gateway at ``path`` drained in that time, for None no more; return its status.

    Raises ConfigError where it cannot be, and RuntimeFailure.
    """
    wanted = Request("drain", drain=DrainWanted(timeout_s))
    with _explained(path):
        encoded = _exchange(path, codec.pack(wanted), EXCHANGE_TIMEOUT_S)
        reply = codec.unpack_printable(encoded, Reply, REPLY_BYTES_MAX)
    if reply.status is None:
        raise _fault(path, reply)
    return reply.status


def _fault(path: Path, reply: Reply) -> FastunError:
    if reply.exit_code == ConfigError.exit_code:
        return ConfigError(reply.error or "")
    return _refused(path, reply)


def _refused(path: Path, reply: Reply) -> RuntimeFailure:
    return RuntimeFailure(f"the gateway of {path.stem} refused: {reply.error}")


def _reply(path: Path, command: str, timeout_s: float) -> Reply:
    with _explained(path):
        encoded = _exchange(path, codec.pack(Request(command)), timeout_s)
        return codec.unpack_printable(encoded, Reply, REPLY_BYTES_MAX)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the gateway at ``path`` into RuntimeFailure."""
    interface = path.name.removesuffix(".sock")
    try:
        yield
    except OSError as error:
        raise RuntimeFailure(_explain(error, path, interface)) from None
    except ValueError as error:  # CodecError, TooLongError
        raise RuntimeFailure(
            f"the gateway of {interface} sent a reply that this version cannot read ({error}); "
            "restart it with the installed version"
        ) from None


def _exchange(path: Path, encoded: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        send(connection, encoded)
        return receive(connection, REPLY_BYTES_MAX)


def _explain(error: OSError, path: Path, interface: str) -> str:
    match error:
        case FileNotFoundError():
            return (
                f"no gateway is running with interface {interface} (no socket {path}); "
                "start one, or give --run-dir"
            )
        case ConnectionRefusedError():
            return f"no gateway is running with interface {interface} (it left {path}); start one"
        case PermissionError():
            return f"permission denied on {path}; run as root, or as the user that runs the gateway"
        case TimeoutError() | BlockingIOError():
            return f"the gateway of {interface} does not answer; try again, or see its log"
        case ConnectionResetError() | BrokenPipeError():
            return f"the gateway of {interface} closed the connection; try again"
    return f"{path}: {error.strerror or error}"
