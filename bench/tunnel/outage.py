"""How long a tunnel does not answer after one of its workers was killed, to a millisecond.

client: a datagram each millisecond --> tunnel --> server: an echo
        the first one sent after the kill that comes back ends the outage
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import struct
import threading
import time
from typing import TYPE_CHECKING

import psutil

from fastun.lab.host import LabError, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.tunnel.pair import Pair

_PORT = 5303
_INTERVAL_S = 0.001
_LIMIT_S = 10.0
# One that dies young again and again is replaced without haste (fastun.lane.lane).
_PAUSE_S = 0.3
_NUMBER = struct.Struct("=Q")
_TITLES = tuple(
    f"fastun: {role}/0" for role in ("tun-reader", "link-writer", "link-reader", "tun-writer")
)


def after_kills(pair: Pair, address: str, n_rounds: int) -> list[float]:
    """Kill each worker of both ends ``n_rounds`` times; return the outages, in ms.

    Empty where the tunnel has none. Raises LabError when it does not come back.
    """
    if not all(_workers(pair, title) for title in _TITLES):
        return []
    outages = []
    with _echoing(pair, address) as sender:
        for _ in range(n_rounds):
            for title in _TITLES:
                for end in range(len(pair.hosts)):
                    wait_until(
                        lambda t=title: len(_workers(pair, t)) == len(pair.hosts),  # type: ignore[misc]
                        f"a {title} at each end",
                    )
                    os.kill(_workers(pair, title)[end], signal.SIGKILL)
                    outages.append(1000 * _seconds_until_answer(sender))
                    time.sleep(_PAUSE_S)
    return outages


def median_ms(pair: Pair, address: str, n_rounds: int) -> float | None:
    """Return the median of ``after_kills``, None where there are no workers."""
    outages = after_kills(pair, address, n_rounds)
    return statistics.median(outages) if outages else None


def _workers(pair: Pair, title: str) -> list[int]:
    """Return the processes of that title, the server's first."""
    found = []
    for pid in pair.program_pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).cmdline()[:1] == [title]:
                found.append(pid)
    return found


def _seconds_until_answer(sender: socket.socket) -> float:
    began = time.monotonic()
    first = time.monotonic_ns()
    while (elapsed := time.monotonic() - began) < _LIMIT_S:
        with contextlib.suppress(OSError):
            sender.send(_NUMBER.pack(time.monotonic_ns()))
        with contextlib.suppress(OSError):  # nothing within the interval
            while True:
                (sent,) = _NUMBER.unpack(sender.recv(_NUMBER.size))
                if sent >= first:
                    return time.monotonic() - began
    raise LabError(f"no answer within {elapsed:.0f} s of a worker's death")


@contextlib.contextmanager
def _echoing(pair: Pair, address: str) -> Iterator[socket.socket]:
    """Keep an echo on the server, and yield a socket of the client's that is connected to it."""
    echo = pair.server.socket(kind=socket.SOCK_DGRAM)
    sender = pair.client.socket(kind=socket.SOCK_DGRAM)
    ended = threading.Event()

    def answer() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                echo.sendto(*echo.recvfrom(64))

    with echo, sender:
        echo.bind((address, _PORT))
        echo.settimeout(0.1)
        sender.connect((address, _PORT))
        sender.settimeout(_INTERVAL_S)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield sender
        finally:
            ended.set()
            thread.join()
