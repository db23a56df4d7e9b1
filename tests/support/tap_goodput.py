"""Goodput between two peers of a TAP device, beside that of one of them to the server."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from fastun.lab.traffic import iperf3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess
    from tests.support.tap_network import TapNetwork

SERVER_ADDRESS = "10.99.0.1"


@dataclass(frozen=True, slots=True)
class Flow:
    """One TCP connection, and the CPU time of all programs that it went through."""

    gbit_per_second: float
    cpu_s_per_gigabyte: float


@dataclass(frozen=True, slots=True)
class Beside:
    """The same peer's two flows, one behind the other."""

    to_server: Flow
    across: Flow

    @property
    def ratio(self) -> float:
        """What of the goodput to the server is left between two peers."""
        return self.across.gbit_per_second / self.to_server.gbit_per_second

    @property
    def ratio_by_cpu(self) -> float:
        """The same where processors alone set the limit: by what a byte costs on each way."""
        return self.to_server.cpu_s_per_gigabyte / self.across.cpu_s_per_gigabyte

    def __str__(self) -> str:
        """Return the line that a measurement prints."""
        return (
            f"to the server {self.to_server.gbit_per_second:.2f} Gbit/s"
            f" at {self.to_server.cpu_s_per_gigabyte:.2f} s of CPU time a GB,"
            f" across {self.across.gbit_per_second:.2f} at {self.across.cpu_s_per_gigabyte:.2f}:"
            f" ratio {self.ratio:.2f}, by CPU time {self.ratio_by_cpu:.2f}"
        )


def beside_the_server(
    network: TapNetwork, one: GatewayProcess, other: GatewayProcess, *, duration_s: int = 1
) -> Beside:
    """Measure from ``one`` to the server, then to ``other``."""
    return Beside(
        flow(network, one, network.server.host, SERVER_ADDRESS, duration_s=duration_s),
        flow(network, one, other.host, other.inner_address, duration_s=duration_s),
    )


def flow(
    network: TapNetwork, source: GatewayProcess, host: Host, address: str, *, duration_s: int = 1
) -> Flow:
    """Measure from ``source`` to ``address`` of ``host``."""
    before_s = cpu_seconds(network)
    result = iperf3(source.host, host, address, duration_s=duration_s)
    spent_s = cpu_seconds(network) - before_s
    return Flow(result.gbit_per_second, spent_s / (result.n_bytes / 1e9))


def cpu_seconds(network: TapNetwork) -> float:
    """Return what all gateways, their workers and the iperf3 that have ended have used."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for gateway in (network.server, *network.peers):
        root = psutil.Process(gateway.process.pid)
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.contextmanager
def limited(network: TapNetwork, places: Sequence[int], mbit_per_second: int) -> Iterator[None]:
    """Limit these peers' links, each direction."""
    rate = ("tbf", "rate", f"{mbit_per_second}mbit", "burst", "256kb", "latency", "20ms")
    ends = [
        end
        for place in places
        for end in (
            (network.peers[place].host, "to-server"),
            (network.server.host, f"to-peer{place + 1}"),
        )
    ]
    try:
        for host, device in ends:
            host.run("tc", "qdisc", "add", "dev", device, "root", *rate)
        yield
    finally:
        for host, device in ends:
            host.run("tc", "qdisc", "delete", "dev", device, "root", check=False)
