"""Exact transfers and exact outages in the laboratory: what iperf3 and ping do not tell.

A transfer is one TCP connection whose every byte is hashed at both ends; a probe measures how long
a path does not answer, to some 10 ms.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastun.lab.host import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host

_CHUNK_BYTES = 256 * 1024
_BLOCK_BYTES = 4 * 1024 * 1024
_STALL_TIMEOUT_S = 30.0  # without a single byte; far longer than any outage that may be survived
_FIRST_BYTES_LIMIT_S = 2.0
_PROBE_INTERVAL_S = 0.01
_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What one end of a transfer saw."""

    n_bytes: int
    digest: bytes
    duration_s: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Both ends of a finished transfer."""

    sent: TransferResult
    received: TransferResult

    @property
    def is_exact(self) -> bool:
        """Whether every byte arrived, in order, unchanged, and nothing else."""
        return (self.sent.n_bytes, self.sent.digest) == (
            self.received.n_bytes,
            self.received.digest,
        )


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def start_transfer(
    source: Host,
    destination: Host,
    address: str,
    *,
    n_bytes: int,
    goes_on: Callable[[], bool] = lambda: False,
    port: int = 5301,
    bytes_per_s: int = 0,
) -> Future[Transfer]:
    """Send at least `n_bytes` of random data to `address` of `destination`, while `goes_on()`.

    No faster than `bytes_per_s`, where that is given.

    Returns when the first bytes have arrived: a connection whose last handshake packet is lost to
    what the test does next would be reset. (Or after 2 s, for tests that begin without a tunnel.)
    The future fails with OSError when the connection breaks or stalls for 30 s.
    """
    listener = destination.socket(_family(address))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1)
    listener.settimeout(_STALL_TIMEOUT_S)
    sender = source.socket(_family(address))
    sender.settimeout(_STALL_TIMEOUT_S)
    if bytes_per_s:
        sender.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, bytes_per_s)

    def run() -> Transfer:
        with ThreadPoolExecutor(max_workers=2) as ends, listener, sender:
            received = ends.submit(_receive, listener, flowing)
            sent = ends.submit(_send, sender, (address, port), n_bytes, goes_on)
            return Transfer(sent.result(), received.result())

    with_result: Future[Transfer] = Future()
    flowing = threading.Event()

    def settle() -> None:
        try:
            with_result.set_result(run())
        except BaseException as error:  # noqa: BLE001 (it belongs to whoever asks for the result)
            with_result.set_exception(error)
        flowing.set()

    threading.Thread(target=settle, daemon=True).start()
    flowing.wait(_FIRST_BYTES_LIMIT_S)
    return with_result


def _send(
    sender: socket.socket, address: tuple[str, int], n_bytes: int, goes_on: Callable[[], bool]
) -> TransferResult:
    block = memoryview(os.urandom(_BLOCK_BYTES))
    digest, n_sent, started = hashlib.blake2b(), 0, time.monotonic()
    sender.connect(address)
    while n_sent < n_bytes or goes_on():
        # Another cut of the block every time: a chunk lost, doubled or moved changes the hash.
        offset = n_sent // _CHUNK_BYTES * 4099 % (_BLOCK_BYTES - _CHUNK_BYTES)
        chunk = block[offset : offset + _CHUNK_BYTES]
        sender.sendall(chunk)
        digest.update(chunk)
        n_sent += len(chunk)
    sender.shutdown(socket.SHUT_WR)
    sender.recv(1)  # the receiver closes when it has everything
    return TransferResult(n_sent, digest.digest(), time.monotonic() - started)


def _receive(listener: socket.socket, flowing: threading.Event) -> TransferResult:
    connection, _ = listener.accept()
    connection.settimeout(_STALL_TIMEOUT_S)
    digest, n_received, started = hashlib.blake2b(), 0, time.monotonic()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with connection:
        while n := connection.recv_into(buffer):
            flowing.set()
            digest.update(buffer[:n])
            n_received += n
    return TransferResult(n_received, digest.digest(), time.monotonic() - started)


class Probe:
    """A UDP echo between two hosts that tells how long the path was silent."""

    def __init__(self, sender: socket.socket) -> None:
        """Probe through `sender`, connected to an echo; see :func:`probing`."""
        self._sender = sender

    def seconds_until_answer(self, timeout_s: float = 30.0) -> float:
        """Return how long it takes from now until something sent from now on is echoed."""
        started = time.monotonic()
        mark = os.urandom(16)  # what was sent before now does not count
        while (elapsed := time.monotonic() - started) < timeout_s:
            with contextlib.suppress(OSError):
                self._sender.send(mark)
            with contextlib.suppress(OSError):
                while self._sender.recv(64) != mark:
                    pass
                return time.monotonic() - started
        raise LabError(f"no answer to the probe within {elapsed:.1f} s")


@contextlib.contextmanager
def probing(source: Host, destination: Host, address: str, port: int = 5302) -> Iterator[Probe]:
    """Keep an echo on `address` of `destination`, and a probe to it from `source`."""
    echo = destination.socket(_family(address), socket.SOCK_DGRAM)
    sender = source.socket(_family(address), socket.SOCK_DGRAM)
    with echo, sender:
        echo.bind((address, port))
        echo.settimeout(0.1)
        sender.connect((address, port))
        sender.settimeout(_PROBE_INTERVAL_S)
        stopped = threading.Event()
        thread = threading.Thread(target=_echo, args=(echo, stopped))
        thread.start()
        try:
            yield Probe(sender)
        finally:
            stopped.set()
            thread.join()


def _echo(echo: socket.socket, stopped: threading.Event) -> None:
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            data, back = echo.recvfrom(64)
            echo.sendto(data, back)
