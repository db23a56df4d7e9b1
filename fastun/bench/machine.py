"""``fastun bench``: this machine's ceiling, and each wire beside it.

    server                                       client
    10.0.0.1             ======= veth =======    10.0.0.2
    10.99.0.1            .. tunnel over it ..    10.99.0.2

Both hosts are network namespaces of this machine. Before and after each direction of each tunnel
the bare veth pair is measured, a quarter as long: on a shared machine only what was taken side by
side can be compared.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from fastun import __version__
from fastun.bench.figures import CpuByRole, Machine, OneWay, WireFigures
from fastun.bench.protocol import PORT
from fastun.bench.sink import attending
from fastun.bench.stages import spent, status_of, us_per_mebibyte
from fastun.bench.traffic import Direction, transfer
from fastun.errors import RuntimeFailure
from fastun.lab.host import Host
from fastun.lab.network import Lab
from fastun.lab.traffic import ping
from fastun.lab.tunnel import Tunnel, start_tunnel

if TYPE_CHECKING:
    from fastun.bench.protocol import Received
    from fastun.lab.tunnel import Transport
    from fastun.status.reply import Status

SERVER_OUTER, CLIENT_OUTER = "10.0.0.1/24", "10.0.0.2/24"
N_PINGS = 20
_PING_INTERVAL_S = 0.02
# Long enough for TCP to have found its speed on a wire without delay.
_VETH_S_MIN = 0.25

Step = Callable[[str], None]


def title(wire: str, transport: str) -> str:
    """Return what a wire over a transport is called for a person."""
    kind = {"wireguard": "secure"}.get(wire, wire)
    return f"{kind} {transport.upper()}"


@dataclass(frozen=True, slots=True)
class Case:
    """A wire over a transport."""

    wire: str
    transport: Transport

    @property
    def title(self) -> str:
        """As in the table."""
        return title(self.wire, self.transport)


CASES = (
    Case("wireguard", "tcp"),
    Case("wireguard", "udp"),
    Case("plain", "tcp"),
    Case("simpletun", "tcp"),
)
# The steps of one case, in their order: start, ping, and both directions.
N_STEPS = 1 + len(CASES) * 4


class Bench:
    """The measurements of one laboratory."""

    def __init__(self, lab: Lab, directory: Path, seconds: float, step: Step) -> None:
        """Prepare; `directory` takes logs and state, `step` is called with what begins."""
        self._lab, self._directory = lab, directory
        self._seconds, self._step = seconds, step

    def run(self) -> Machine:
        """Build, and measure case after case. Raises FastunError."""
        load_average = os.getloadavg()[0]  # before we add to it
        self._step("two hosts and a veth pair")
        self._server, self._client = self._lab.host("server"), self._lab.host("client")
        self._lab.wire(self._server, self._client, [SERVER_OUTER], [CLIENT_OUTER])
        veth_ping_ms = self._ping(_bare(SERVER_OUTER))
        return Machine(
            version=__version__,
            kernel=os.uname().release,
            cores=len(os.sched_getaffinity(0)),
            congestion_control=self._lab.congestion_control,
            seconds=self._seconds,
            load_average=load_average,
            veth_ping_ms=veth_ping_ms,
            wires=[self._measure(case) for case in CASES],
        )

    def _measure(self, case: Case) -> WireFigures:
        self._step(f"{case.title}: starting")
        tunnel = self._start(case)
        self._step(f"{case.title}: ping")
        ping_ms = self._ping(tunnel.server.inner_address)
        figures = WireFigures(
            wire=case.wire,
            transport=case.transport,
            ping_ms=ping_ms,
            to_server=self._one_way(case, tunnel, "send"),
            to_client=self._one_way(case, tunnel, "receive"),
        )
        for gateway in (tunnel.client, tunnel.server):
            gateway.stop()
        return figures

    def _start(self, case: Case) -> Tunnel:
        directory = self._directory / f"{case.wire}-{case.transport}"
        directory.mkdir()
        tunnel = start_tunnel(
            self._server,
            self._client,
            _bare(SERVER_OUTER),
            directory,
            wire=case.wire,
            transport=case.transport,
        )
        tunnel.wait_up()
        return tunnel

    def _ping(self, address: str) -> float:
        return ping(self._client, address, n=N_PINGS, interval_s=_PING_INTERVAL_S).avg_ms

    def _one_way(self, case: Case, tunnel: Tunnel, direction: Direction) -> OneWay:
        whither = "client to server" if direction == "send" else "server to client"
        self._step(f"{case.title}: {whither}")
        veth = [self._veth(direction)]
        sender, receiver = tunnel.client, tunnel.server
        if direction == "receive":
            sender, receiver = receiver, sender
        before = status_of(sender), status_of(receiver)
        received = self._transfer(tunnel.server.inner_address, direction, self._seconds)
        after = status_of(sender), status_of(receiver)
        veth.append(self._veth(direction))
        cpu = [_per_mebibyte(*looks, received.n_bytes) for looks in zip(before, after, strict=True)]
        return OneWay(
            bits_per_second=received.bits_per_second,
            veth_bits_per_second=mean(each.bits_per_second for each in veth),
            sender_cpu_us_per_mebibyte=cpu[0],
            receiver_cpu_us_per_mebibyte=cpu[1],
        )

    def _veth(self, direction: Direction) -> Received:
        return self._transfer(_bare(SERVER_OUTER), direction, max(_VETH_S_MIN, self._seconds / 4))

    def _transfer(self, address: str, direction: Direction, seconds: float) -> Received:
        listener = self._server.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen(1)
        try:
            with attending([listener]):
                return transfer(lambda: _connect(self._client, address), direction, seconds)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot exchange traffic with {address}: {error.strerror or error}"
            ) from error


def _connect(host: Host, address: str) -> socket.socket:
    connection = host.socket()
    connection.connect((address, PORT))
    return connection


def _per_mebibyte(before: Status, after: Status, n_bytes: int) -> CpuByRole:
    return {role: us_per_mebibyte(s, n_bytes) for role, s in spent(before, after).items()}


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]
