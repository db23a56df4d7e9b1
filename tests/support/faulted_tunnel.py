"""A tunnel under steady traffic whose client can be made to fail, and what that does to it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import psutil

from fastun.lab.host import LabError, wait_until
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    SERVER_ADDRESSES,
    Tunnel,
    add_peer,
    endpoints,
    start_gateway,
)
from fastun.native import ROLES
from tests.support.accounting import missing_packets
from tests.support.compressed_time import gateway_with
from tests.support.failing_calls import GATEWAY, FailingCalls, build
from tests.support.processes import find_worker
from tests.support.transfer import probing

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport

_PORT = 5302  # of the probe's echo
_BURST, _BURSTS_EVERY_S, _LENGTH = 24, 0.05, 1200
# After so many of them a pause in which writers fall into their long sleep.
_BURSTS, _PAUSE_S = 6, 0.7
_LIMIT_S = 20.0

#: Keys change every second, so that what is done for that fails, too. The link is ended every other
#: second, for minutes: a client whose links all end within ten would make pauses between them.
HASTY = gateway_with(
    lasting_link_s=0.5,
    rekey_after_time_s=1.0,
    reject_after_time_s=30.0,
    rekey_timeout_s=0.2,
    jitter_s=0.01,
)


class FaultedTunnel:
    """Its client's system calls fail when they are told to. Use as a context manager."""

    def __init__(self, lab: Lab, directory: Path, transport: Transport) -> None:
        """Start it, and wait until it is up."""
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        self.calls = FailingCalls(build(directory), directory / "calls")
        listen = [word for url in endpoints("10.0.0.1", transport) for word in ("--listen", url)]
        # fmt: off
        serving = start_gateway(server, directory, "serve", *listen, wire="wireguard",
                                addresses=SERVER_ADDRESSES, program=HASTY)
        file = add_peer(serving, "client", "10.0.0.1", transport)
        self.client = start_gateway(client, directory, "connect", str(file), wire="wireguard",
                                    addresses=CLIENT_ADDRESSES, program=self.calls.program(HASTY))
        # fmt: on
        self.transport, self.server = transport, serving
        self._cpu_seconds: dict[str, dict[int, float]] = {}
        self._stack = contextlib.ExitStack()
        Tunnel(serving, self.client).wait_up()

    def __enter__(self) -> Self:
        """Send bursts, which workers share, and single packets, which their readers pass on."""
        hosts = self.client.host, self.server.host
        self.probe = self._stack.enter_context(probing(*hosts, self.server.inner_address, _PORT))
        ends = threading.Event()
        thread = threading.Thread(target=self._send, args=(ends,))
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(ends.set)
        return self

    def __exit__(self, *_: object) -> None:
        """End the traffic."""
        self._stack.close()

    def _send(self, ends: threading.Event) -> None:
        with self.client.host.socket(kind=socket.SOCK_DGRAM) as sending:
            n_bursts = 0
            while not ends.wait(_BURSTS_EVERY_S if n_bursts % _BURSTS else _PAUSE_S):
                n_bursts += 1
                for _ in range(_BURST):
                    with contextlib.suppress(OSError):
                        sending.sendto(bytes(_LENGTH), (self.server.inner_address, _PORT))

    def cpu_seconds(self, title: str) -> float:
        """Return the time so far of a role's workers, dead ones as well, or of another process."""
        if title in ROLES:
            return self.client.scrape().total("fastun_worker_cpu_seconds_total", role=title)
        if title == GATEWAY:
            return time.clock_gettime(~self.client.process.pid << 3 | 2)
        by_pid = self._cpu_seconds.setdefault(title, {})
        with contextlib.suppress(LabError, OSError):  # between one template and the next
            pid = self.worker(title.removeprefix("fastun: ")).pid
            by_pid[pid] = time.clock_gettime(~pid << 3 | 2)
        return sum(by_pid.values())  # of one that has been replaced, what it had when last asked

    def worker(self, role: str) -> psutil.Process:
        """Return a worker, or another process with that title, as soon as there is one."""
        found: list[int] = []

        def is_there() -> bool:
            pid = find_worker(self.client, role)
            found.extend(() if pid is None else (pid,))
            return bool(found)

        wait_until(is_there, f"a {role}")
        return psutil.Process(found[0])

    def seconds_until_good(self) -> float:
        """Return how long from now it takes until a packet makes its way, there and back."""
        try:
            return self.probe.seconds_until_answer(_LIMIT_S)
        except LabError:
            return _LIMIT_S

    def missing(self) -> dict[str, float]:
        """Return what is taken in and neither delivered nor dropped, once nothing is under way."""
        deadline = time.monotonic() + 10
        while any(found := missing_packets(self.client).values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return {} if not any(found) else missing_packets(self.client)


def is_alive(gateway: GatewayProcess) -> bool:
    """Return whether a gateway still runs."""
    return gateway.process.poll() is None
