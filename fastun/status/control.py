"""The control socket, RUN_DIR/INTERFACE.sock: how ``fastun status`` asks a running gateway.

    u32 big-endian length | msgpack map        request {"command": "status" or "peers-changed"}
    u32 big-endian length | msgpack map        reply   {"status": {…}} or {"error": "…"}

"peers-changed" has the peer directory looked at before the reply, which is the status as well.
A connection carries one request and one reply. The server runs on the gateway's event loop, which
must never wait for a client: everything that one sends is bounded in size and time, and their
number too. The socket is made with mode 0600, so whoever may connect is this user or root, and in
a directory that nobody else may write to.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING

import msgspec

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.status import run_directory
from fastun.status.reply import Status, read_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastun.config.settings import Settings
    from fastun.gateway.gateway import Gateway

# A request is a few dozen bytes; this leaves room for later commands with arguments.
REQUEST_BYTES_MAX = 64 * 1024

# A reply is some 2 KiB a lane and half a KiB a peer, of whom there may be 1,024. A client that is
# told of more is not talking to a gateway.
REPLY_BYTES_MAX = 4 * 1024 * 1024

# For a whole exchange. The gateway answers at once; what takes longer is a client that hangs.
EXCHANGE_TIMEOUT_S = 5.0

# Clients are people and scripts. One that is turned away tries again; descriptors are for links.
CLIENTS_MAX = 16

COMMANDS = ("status", "peers-changed")

_PREFIX = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks."""

    command: str


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What it is told: one of the two."""

    status: Status | None = None
    error: str | None = None


def socket_path(run_dir: Path, interface: str) -> Path:
    """Return where the gateway of ``interface`` listens."""
    return run_dir / f"{interface}.sock"


def is_alive(path: Path) -> bool:
    """Return whether somebody listens at ``path``. Raises OSError when that cannot be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its queue of connections is full
            return True
    return True


# -- the gateway's side -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serve(gateway: Gateway, settings: Settings) -> AsyncIterator[None]:
    """Answer on the control socket as long as the context lasts.

    Raises RuntimeFailure when the run directory cannot be used, or another gateway uses the socket.
    """
    path = socket_path(settings.run_dir, settings.interface)
    clients = _Clients(gateway)
    async with _listening(path) as listener:
        server = await asyncio.start_unix_server(
            clients.answer, sock=listener, limit=REQUEST_BYTES_MAX
        )
        try:
            yield
        finally:
            server.close()
            await clients.close()


class _Clients:
    """Those being answered now."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._log = log.get("control")

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one client's exchange, and let it go however that went."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (start_unix_server runs this in a task)
        try:
            if len(self._tasks) < CLIENTS_MAX and not self._is_closed:
                self._tasks.add(task)
                async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                    await self._exchange(reader, writer)
        except (OSError, EOFError) as error:  # TimeoutError and IncompleteReadError are such
            self._log.debug("client cut off", error=str(error) or type(error).__name__)
        except Exception:  # noqa: BLE001 (whatever it was, the tunnel goes on)
            self._log.error("unexpected error", exc_info=True)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()  # what the kernel has taken still reaches the client

    async def close(self) -> None:
        """Let all go, also one that was accepted but has not begun: the lane may be gone."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
        if length > REQUEST_BYTES_MAX:
            reply = Reply(
                error=f"request of {length} bytes is too long (maximum {REQUEST_BYTES_MAX})"
            )
        else:
            reply = self._reply(await reader.readexactly(length))
        encoded = msgspec.msgpack.encode(reply)
        writer.transport.set_write_buffer_limits(high=0)  # drain() means: the kernel has it all
        writer.write(_PREFIX.pack(len(encoded)) + encoded)
        await writer.drain()

    def _reply(self, encoded: bytes) -> Reply:
        try:
            request = msgspec.msgpack.decode(encoded, type=Request)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return Reply(error=f"malformed request: {error}")
        if request.command not in COMMANDS:
            known = ", ".join(COMMANDS)
            return Reply(error=f"unknown command {request.command!r:.80}; use one of: {known}")
        if request.command == "peers-changed":
            self._gateway.peer_sync.refresh()
        return Reply(status=read_status(self._gateway))


@contextlib.asynccontextmanager
async def _listening(path: Path) -> AsyncIterator[socket.socket]:
    """Make the socket, and remove it at the end."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            run_directory.check(path.parent)
            async with run_directory.locked(path.parent):
                _clear(path)
                # On Linux the socket's own mode becomes the file's at bind (unix_bind_bsd in
                # net/unix/af_unix.c), so there is no moment at which others could connect.
                os.fchmod(listener.fileno(), 0o600)
                listener.bind(str(path))
                listener.listen(CLIENTS_MAX)
                ours = run_directory.identity(path)
        except OSError as error:
            raise RuntimeFailure(
                f"--run-dir {path.parent}: {path.name} cannot be made ({error.strerror}); "
                "choose a directory that this user can write"
            ) from None
        listener.setblocking(False)
        try:
            yield listener
        finally:
            _remove(path, ours)


def _clear(path: Path) -> None:
    """Remove the socket of a gateway that was killed. Raises RuntimeFailure for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RuntimeFailure(f"{path} is not a socket; remove it, or choose another --run-dir")
    if is_alive(path):
        raise RuntimeFailure(
            f"another gateway listens on {path}; stop it, or choose another --run-dir"
        )
    path.unlink()


def _remove(path: Path, ours: tuple[int, int] | None) -> None:
    """Remove our socket, and not one that took its place."""
    if run_directory.identity(path) == ours:
        path.unlink(missing_ok=True)


# -- the client's side ------------------------------------------------------------------------


def request(path: Path, command: str, timeout_s: float = EXCHANGE_TIMEOUT_S) -> Status:
    """Send ``command`` to the gateway at ``path`` and return its status.

    Raises RuntimeFailure when there is none, or it does not answer in ``timeout_s``.
    """
    interface = path.name.removesuffix(".sock")
    try:
        encoded = _exchange(path, msgspec.msgpack.encode(Request(command)), timeout_s)
        reply = msgspec.msgpack.decode(encoded, type=Reply)
    except OSError as error:
        raise RuntimeFailure(_explain(error, path, interface)) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise RuntimeFailure(
            f"the gateway of {interface} sent a reply that this version cannot read ({error}); "
            "restart it with the installed version"
        ) from None
    if reply.status is None:
        raise RuntimeFailure(f"the gateway of {interface} refused: {reply.error}")
    return reply.status


def _exchange(path: Path, encoded: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(_PREFIX.pack(len(encoded)) + encoded)
        (length,) = _PREFIX.unpack(_receive_exactly(connection, _PREFIX.size))
        if length > REPLY_BYTES_MAX:
            raise ValueError(f"{length} bytes")
        return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < n_bytes:
        piece = connection.recv(n_bytes - len(received))
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        received += piece
    return bytes(received)


def _explain(error: OSError, path: Path, interface: str) -> str:
    match error:
        case FileNotFoundError():
            return (
                f"no gateway runs with interface {interface} (no socket {path}); "
                "start one, or give --run-dir"
            )
        case ConnectionRefusedError():
            return f"no gateway runs with interface {interface} (it left {path}); start one"
        case PermissionError():
            return f"permission denied on {path}; run as root, or as the user that runs the gateway"
        case TimeoutError() | BlockingIOError():
            return f"the gateway of {interface} does not answer; try again, or see its log"
        case ConnectionResetError() | BrokenPipeError():
            return f"the gateway of {interface} closed the connection; try again"
    return f"{path}: {error.strerror or error}"
