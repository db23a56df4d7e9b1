"""Connections that strangers make, from many sources at once: a cheap loop in a process of its own.

python -m tests.attack.connections TARGET PORT PER_S SECONDS KIND SOURCE...

PER_S connections a second are begun without waiting, from each source in turn; 0: as many as this
process can. What each then does is KIND:

    idle        nothing; the oldest is closed when there are more than HELD_MAX
    churn       it is closed as soon as it is there
    file:PATH   the bytes of the file are sent as soon as it is there, and what comes is read

At the end one line of JSON: how many were begun, established and answered, and in how long.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

HELD_MAX = 15_000
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; in.h has it for both versions of IP


class Crowd:
    """All connections of one run."""

    def __init__(self, target: tuple[str, int], sources: list[str], kind: str) -> None:
        self.target, self.sources = target, sources
        self.is_churn = kind == "churn"
        self.said = Path(kind[5:]).read_bytes() if kind.startswith("file:") else b""
        self.n_begun = self.n_established = self.n_answered = self.n_failed = 0
        self.family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.epoll = select.epoll()
        self.by_fd: dict[int, socket.socket] = {}
        self.held: deque[socket.socket] = deque()

    def begin(self) -> None:
        source = self.sources[self.n_begun % len(self.sources)]
        connection = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((source, 0))
        error = connection.connect_ex(self.target)
        self.n_begun += 1
        if error not in (0, errno.EINPROGRESS):
            self.n_failed += 1
            connection.close()
            return
        self.by_fd[connection.fileno()] = connection
        self.epoll.register(connection, select.EPOLLOUT | select.EPOLLONESHOT)
        self.held.append(connection)
        while len(self.held) > HELD_MAX:
            self.close(self.held.popleft())

    def close(self, connection: socket.socket) -> None:
        if self.by_fd.pop(connection.fileno(), None) is not None:
            connection.close()

    def look(self) -> None:
        for fd, events in self.epoll.poll(0, 1024):
            connection = self.by_fd.get(fd)
            if connection is None:
                continue
            if events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                self.on_established(connection)
            else:
                self.on_end(connection)

    def on_established(self, connection: socket.socket) -> None:
        self.n_established += 1
        if self.is_churn:
            self.close(connection)
            return
        try:
            if self.said:
                connection.send(self.said)
            self.epoll.modify(connection, select.EPOLLIN)
        except OSError:
            self.close(connection)

    def on_end(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.n_answered += connection.recv(65536) != b""
        self.close(connection)


def main() -> None:
    target, port, per_s, seconds, kind = (
        sys.argv[1],
        int(sys.argv[2]),
        float(sys.argv[3]),
        float(sys.argv[4]),
        sys.argv[5],
    )
    crowd = Crowd((target, port), sys.argv[6:], kind)
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        due = int((now - began) * per_s) if per_s else crowd.n_begun + 32
        for _ in range(min(due - crowd.n_begun, 256)):
            crowd.begin()
        crowd.look()
        if per_s and due - crowd.n_begun <= 0:
            time.sleep(0.002)
    took_s = time.monotonic() - began
    print(  # noqa: T201 (the result)
        json.dumps(
            {
                "begun": crowd.n_begun,
                "established": crowd.n_established,
                "answered": crowd.n_answered,
                "failed": crowd.n_failed,
                "seconds": took_s,
            }
        )
    )


if __name__ == "__main__":
    main()
