"""Numbered datagrams through a tunnel, and their echoes: which came, and in which order."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host


def out_of_order(numbers: list[int]) -> int:
    return sum(after <= before for before, after in itertools.pairwise(numbers))


class Numbered:
    """A flow of numbered datagrams, and the numbers that came back, as they came."""

    def __init__(self, source: Host, address: str, port: int) -> None:
        self.socket = source.socket(kind=socket.SOCK_DGRAM)
        self.socket.connect((address, port))
        self.socket.setblocking(False)
        self.n_sent = 0
        self.came: list[int] = []

    def send(self) -> None:
        try:
            self.socket.send(self.n_sent.to_bytes(4, "big"))
            self.n_sent += 1
        except BlockingIOError:
            pass

    def receive(self) -> None:
        try:
            while True:
                self.came.append(int.from_bytes(self.socket.recv(16), "big"))
        except BlockingIOError:
            pass

    def n_out_of_order(self) -> int:
        return out_of_order(self.came)


def echo_of(host: Host, address: str, came: list[tuple[tuple[str, int], int]]) -> socket.socket:
    """Send back what comes, and note it with its source; ends when it is closed."""
    echo = host.socket(kind=socket.SOCK_DGRAM)
    echo.bind((address, 0))

    def serve() -> None:
        try:
            while True:
                data, back = echo.recvfrom(16)
                if not data:
                    return
                came.append((back, int.from_bytes(data, "big")))
                echo.sendto(data, back)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    return echo


@contextlib.contextmanager
def echoing(host: Host, address: str, port: int = 0) -> Iterator[int]:
    """Send back each datagram; yields the port, which is any where none is given."""
    with host.socket(kind=socket.SOCK_DGRAM) as echo:
        echo.bind((address, port))
        echo.settimeout(0.1)
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    data, back = echo.recvfrom(64)
                    echo.sendto(data, back)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield echo.getsockname()[1]
        finally:
            stopped.set()
            thread.join()


def exchange(our: socket.socket, n: int) -> None:
    """Have `n` numbered datagrams come back, each once and in order."""
    for i in range(n):
        our.send(i.to_bytes(4, "big"))
        assert our.recv(64) == i.to_bytes(4, "big")


class Asked:
    """Numbered questions in some flows, all of which want their answer."""

    def __init__(self, source: Host, port: int, address: str, n_flows: int = 12) -> None:
        self.flows = [source.socket(kind=socket.SOCK_DGRAM) for _ in range(n_flows)]
        for flow in self.flows:
            flow.connect((address, port))
            flow.setblocking(False)
        self.n_sent = 0
        self.came: list[list[int]] = [[] for _ in self.flows]

    def send(self) -> None:
        for flow in self.flows:
            flow.send(self.n_sent.to_bytes(4, "big"))
        self.n_sent += 1

    def take(self) -> None:
        for flow, came in zip(self.flows, self.came, strict=True):
            with contextlib.suppress(BlockingIOError):
                while True:
                    came.append(int.from_bytes(flow.recv(16), "big"))

    def n_lost(self) -> int:
        return sum(self.n_sent - len(set(came)) for came in self.came)

    def n_out_of_order(self) -> int:
        return sum(map(out_of_order, self.came))


@contextlib.contextmanager
def asking(
    source: Host, destination: Host, address: str, other: Host | None = None
) -> Iterator[Asked]:
    """Ask all the time, and at the end wait for the last answers.

    ``other`` has the same address, and answers as well.
    """
    stopped = threading.Event()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(echoing(destination, address))
        if other is not None:
            stack.enter_context(echoing(other, address, port))
        asked = Asked(source, port, address)

        def ask() -> None:
            while not stopped.is_set():
                asked.send()
                time.sleep(0.05)
                asked.take()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield asked
        finally:
            stopped.set()
            thread.join()
            time.sleep(0.5)
            asked.take()
