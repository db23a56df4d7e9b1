"""TCP connections inside tunnels, for as long as a test wants, and how long each stood still.

For each client two connections to one server: over one it says a little every 20 ms and is echoed,
over the other it is sent a steady stream. What counts is when something arrives at the client:
a stall is the longest time without. All ends are in one thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from fastun.lab.host import LabError, wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from fastun.lab.host import Host

TALK_PORT: Final = 5401
STREAM_PORT: Final = 5402
EVERY_S: Final = 0.02
TALK_BYTES: Final = 200
#: 6.4 Mbit/s for each client.
STREAM_BYTES: Final = 16_000
_LONG_S: Final = 0.05  # what is shorter is none


@dataclasses.dataclass(eq=False)
class Stream:
    """One connection, and when its client has got something."""

    client: str
    kind: str
    ours: socket.socket
    theirs: socket.socket | None = None
    last_s: float = 0.0
    stalls: list[tuple[float, float]] = dataclasses.field(default_factory=list)  # end, duration
    broken: str = ""

    def got(self, now_s: float) -> None:
        """Note that something has come."""
        if now_s - self.last_s > _LONG_S:
            self.stalls.append((now_s, now_s - self.last_s))
        self.last_s = now_s


class InnerStreams:
    """Those of all clients. A context manager."""

    def __init__(self, server: Host, address: str) -> None:
        """Listen on the server; no client yet."""
        self._address = address
        self._listeners = {
            "talk": _listening(server, address, TALK_PORT),
            "stream": _listening(server, address, STREAM_PORT),
        }
        self.streams: list[Stream] = []
        self._selector = selectors.DefaultSelector()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Let nothing flow yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        for each in self.streams:
            each.ours.close()
            if each.theirs is not None:
                each.theirs.close()
        for listener in self._listeners.values():
            listener.close()
        self._selector.close()

    def connect(self, client: Host) -> None:
        """Make the connections of a client whose tunnel is up."""
        for kind, port in (("talk", TALK_PORT), ("stream", STREAM_PORT)):
            ours = client.socket()
            ours.settimeout(10)
            ours.connect((self._address, port))
            theirs, _ = self._listeners[kind].accept()
            for each in (ours, theirs):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.streams.append(Stream(client.name, kind, ours, theirs))

    def begin(self) -> None:
        """Let it flow, and wait until it does everywhere."""
        now_s = time.monotonic()
        for each in self.streams:
            each.last_s = now_s
            self._selector.register(each.ours, selectors.EVENT_READ, each)
            if each.kind == "talk" and each.theirs is not None:
                self._selector.register(each.theirs, selectors.EVENT_READ, each)
        self._thread.start()
        self.wait_flowing(time.monotonic(), 10)

    def wait_flowing(self, since_s: float, timeout_s: float) -> None:
        """Wait until something has come on each since then. LabError where one is broken."""

        def flows() -> bool:
            if self.broken():
                raise LabError(f"an inner connection broke: {self.broken()}")
            return all(each.last_s > since_s for each in self.streams)

        wait_until(flows, "all inner connections", timeout_s=timeout_s)

    def flow_for(self, seconds: float) -> None:
        """Let it flow for so long. LabError where something stands still at the end."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.wait_flowing(time.monotonic(), 30)
            self._is_over.wait(0.1)

    def broken(self) -> list[str]:
        """Return what has become of connections that were reset or closed."""
        return [f"{each.client} {each.kind}: {each.broken}" for each in self.streams if each.broken]

    def stalls(self, since_s: float) -> dict[tuple[str, str], float]:
        """Return the longest of each connection that has ended since then, by client and kind."""
        found: dict[tuple[str, str], float] = {}
        for each in self.streams:
            longest = max((lasted for end, lasted in each.stalls if end > since_s), default=0.0)
            found[each.client, each.kind] = longest
        return found

    def _run(self) -> None:
        talk, stream = bytes(TALK_BYTES), bytes(STREAM_BYTES)
        due_s = time.monotonic()
        while not self._is_over.is_set():
            for key, _ in self._selector.select(max(0.0, due_s - time.monotonic())):
                self._read(key.data, key.fileobj)  # type: ignore[arg-type]
            if time.monotonic() < due_s:
                continue
            due_s = max(due_s + EVERY_S, time.monotonic() - EVERY_S)
            for each in self.streams:
                if each.kind == "talk":
                    self._send(each, each.ours, talk)
                elif each.theirs is not None:
                    self._send(each, each.theirs, stream)

    def _read(self, stream: Stream, end: socket.socket) -> None:
        try:
            content = end.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(stream, end, str(error))
            return
        if not content:
            self._break(stream, end, "closed")
        elif end is stream.ours:
            stream.got(time.monotonic())
        else:
            self._send(stream, end, content)

    def _send(self, stream: Stream, end: socket.socket, content: bytes) -> None:
        if stream.broken:
            return
        try:
            end.send(content)
        except BlockingIOError:
            return  # the buffer is full while the path is away
        except OSError as error:
            self._break(stream, end, str(error))

    def _break(self, stream: Stream, end: socket.socket, why: str) -> None:
        stream.broken = stream.broken or why
        with contextlib.suppress(KeyError):
            self._selector.unregister(end)


def _listening(server: Host, address: str, port: int) -> socket.socket:
    listener = server.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(64)
    listener.settimeout(10)
    return listener
