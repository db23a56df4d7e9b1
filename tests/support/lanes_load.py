"""Load for several lanes on UDP, in flows for all of them, and which lanes carry a peer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from fastun.lab.host import WAIT_LIMIT_S, wait_until
from fastun.status import control

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess

UDP_SEGMENT = 103  # linux/udp.h
_SEGMENT_BYTES, _SEGMENTS = 400, 60
_PAUSE_S = 0.005
# What opens four lanes is half of it (fastun/link/datagram/way.py).
_TRAINS_PER_S = 30_000 / _SEGMENTS
N_FLOWS = 16


@contextlib.contextmanager
def loaded(source: Host, destination: Host, address: str) -> Iterator[None]:
    """Send some ten thousands of packets a second, in flows that have all ways of a few."""
    stopped = threading.Event()
    sink = destination.socket(kind=socket.SOCK_DGRAM)
    sink.bind((address, 0))
    flows = [source.socket(kind=socket.SOCK_DGRAM) for _ in range(N_FLOWS)]
    for flow in flows:
        flow.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_BYTES)
        flow.connect(sink.getsockname())
        flow.setblocking(False)

    def send() -> None:
        train, n_sent, began_s = bytes(_SEGMENT_BYTES * _SEGMENTS), 0, time.monotonic()
        while not stopped.wait(_PAUSE_S):
            n_due = round((time.monotonic() - began_s) * _TRAINS_PER_S)
            for n in range(n_sent, n_due):
                with contextlib.suppress(OSError):
                    flows[n % N_FLOWS].send(train)
            n_sent = n_due

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for each in (sink, *flows):
            each.close()


def status_of(gateway: GatewayProcess) -> Any:
    """Return what `fastun status` says."""
    path = control.socket_path(gateway.log_file.parent, gateway.interface)
    return msgspec.to_builtins(control.request(path, "status", timeout_s=WAIT_LIMIT_S))


def lanes_of(gateway: GatewayProcess, name: str | None = None) -> list[int]:
    """Return the lanes that carry a peer; None: there is one."""
    (peer,) = (each for each in status_of(gateway)["peers"] if name in (None, each["name"]))
    return [] if peer["link"] is None else list(peer["link"]["lanes"])


def wait_for_lanes(
    gateway: GatewayProcess, n_lanes: int, name: str | None = None, timeout_s: float = 20
) -> None:
    """Wait until so many lanes carry a peer."""
    found: list[list[int]] = [[]]

    def are_there() -> bool:
        found[0] = lanes_of(gateway, name)
        return len(found[0]) == n_lanes

    try:
        wait_until(are_there, f"{n_lanes} lanes", timeout_s=timeout_s)
    finally:
        print(f"{gateway.role}: carried by lanes {found[0]}")  # noqa: T201
