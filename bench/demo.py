"""`./run demo`: a tunnel between two network namespaces, measured next to the bare veth pair.

    server                                       client
    10.0.0.1, fd00::1    ======= veth =======    10.0.0.2, fd00::2
    10.99.0.1, fd99::1   .. tunnel over it ..    10.99.0.2, fd99::2

The measurements of veth and tunnel alternate, because on a shared machine only figures that were
taken side by side can be compared. Without root it runs in a user namespace of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fastun.errors import FastunError
from fastun.lab import entry
from fastun.lab.host import Host
from fastun.lab.network import Lab
from fastun.lab.traffic import iperf3, ping
from fastun.lab.tunnel import GatewayFailed, GatewayProcess, Tunnel, start_tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAMS = {**entry.PROGRAMS, "ss": "iproute2", "iperf3": "iperf3"}
SERVER_OUTER = ("10.0.0.1/24", "fd00::1/64")
CLIENT_OUTER = ("10.0.0.2/24", "fd00::2/64")
N_ROUNDS = 2
TRANSFER_S = 1
N_PINGS = 10
# Packets may still be in the rings and queues when iperf3 has ended.
SETTLE_S = 0.3
# What the table says of each wire.
SAFETY = {
    "wireguard": "Encrypted, with the keys of 'fastun peer add'.",
    "plain": "This wire is not encrypted (--insecure).",
}


@dataclass(frozen=True, slots=True)
class Transfer:
    """One kind of measurement: over what, in which direction and IP version."""

    over: str  # "veth" or "tunnel"
    direction: str
    version: str  # "IPv4" or "IPv6"


@dataclass(slots=True)
class Figures:
    """What was measured: goodput of each round in bit/s, round-trip times, and packet counts."""

    goodput: dict[Transfer, list[float]] = field(default_factory=dict)
    ping_ms: dict[tuple[str, str], float] = field(default_factory=dict)
    packets: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    congestion_control: str = ""


DIRECTIONS = ("client to server", "server to client")


class Demo:
    """The steps of the demonstration, shown in `progress` while they run."""

    def __init__(self, lab: Lab, directory: Path, progress: Progress, wire: str) -> None:
        """Prepare; `directory` takes the gateways' logs and state."""
        self._lab = lab
        self._wire = wire
        self._directory = directory
        self._progress = progress
        self._task = progress.add_task("", total=3 + N_ROUNDS * 8)
        self._figures = Figures()

    def run(self) -> Figures:
        """Build, measure, scrape. Raises FastunError."""
        self._step("two hosts and a veth pair")
        server, client = self._lab.host("server"), self._lab.host("client")
        self._lab.wire(server, client, SERVER_OUTER, CLIENT_OUTER)
        self._figures.congestion_control = self._lab.congestion_control
        self._step("fastun serve and fastun connect")
        tunnel = start_tunnel(
            server, client, _bare(SERVER_OUTER[0]), self._directory, wire=self._wire
        )
        tunnel.wait_up()
        addresses = {"veth": SERVER_OUTER, "tunnel": tunnel.server.addresses}
        self._step("ping")
        self._measure_ping(client, addresses)
        for round_number in range(1, N_ROUNDS + 1):
            self._measure_goodput(client, server, addresses, round_number)
        time.sleep(SETTLE_S)
        self._count_packets(tunnel)
        return self._figures

    def _step(self, what: str) -> None:
        """Say what begins now, and that the step before is done."""
        first = not self._progress.tasks[0].description
        self._progress.update(self._task, advance=0 if first else 1, description=what)
        if not self._progress.console.is_terminal:
            self._progress.console.print(what, highlight=False)

    def _measure_ping(self, client: Host, addresses: Mapping[str, Sequence[str]]) -> None:
        for over, cidrs in addresses.items():
            for cidr in cidrs:
                result = ping(client, _bare(cidr), n=N_PINGS)
                self._figures.ping_ms[over, _version(cidr)] = result.avg_ms

    def _measure_goodput(
        self, client: Host, server: Host, addresses: Mapping[str, Sequence[str]], round_number: int
    ) -> None:
        for direction in DIRECTIONS:
            for index in range(2):
                for over, cidrs in addresses.items():
                    cidr = cidrs[index]
                    self._step(
                        f"iperf3 {round_number}/{N_ROUNDS}: {direction}, {_version(cidr)}, {over}"
                    )
                    result = iperf3(
                        client,
                        server,
                        _bare(cidr),
                        duration_s=TRANSFER_S,
                        reverse=direction == DIRECTIONS[1],
                    )
                    transfer = Transfer(over, direction, _version(cidr))
                    self._figures.goodput.setdefault(transfer, []).append(result.bits_per_second)

    def _count_packets(self, tunnel: Tunnel) -> None:
        """Follow the packets from one device to the other one through both gateways."""
        self._step("scraping /metrics of both gateways")
        ends = ((tunnel.client, tunnel.server), (tunnel.server, tunnel.client))
        for direction, (source, target) in zip(DIRECTIONS, ends, strict=True):
            self._figures.packets[direction] = _packets(source, target)


def _packets(source: GatewayProcess, target: GatewayProcess) -> tuple[int, int, int]:
    """Return the packets read from one device, written to the other one, and dropped between."""
    outbound, inbound = source.scrape(), target.scrape()
    entered = outbound.total("fastun_packets_total", role="tun-reader")
    left = inbound.total("fastun_packets_total", role="tun-writer")
    dropped = outbound.total("fastun_dropped_packets_total", direction="outbound")
    dropped += inbound.total("fastun_dropped_packets_total", direction="inbound")
    return int(entered), int(left), int(dropped)


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]


def _version(cidr: str) -> str:
    return "IPv6" if ":" in cidr else "IPv4"


def report(figures: Figures, wire: str) -> Table:
    """Lay the figures out in one table that fits 80 columns."""
    table = Table(
        title=f"fastun: one tunnel ({wire} wire over TCP) next to the veth pair under it",
        caption=f"{os.cpu_count()} cores for both hosts and iperf3; one TCP stream, "
        f"{figures.congestion_control};\nmean of {N_ROUNDS} runs of {TRANSFER_S} s. "
        f"{SAFETY[wire]}",
        min_width=76,
    )
    table.add_column("")
    for heading in ("bare veth", "tunnel", "tunnel / veth"):
        table.add_column(heading, justify="right")
    for direction in DIRECTIONS:
        for version in ("IPv4", "IPv6"):
            veth, tunnel = (
                statistics.mean(figures.goodput[Transfer(over, direction, version)])
                for over in ("veth", "tunnel")
            )
            table.add_row(
                f"{direction}, {version}",
                f"{veth / 1e9:.2f} Gbit/s",
                f"[bold]{tunnel / 1e9:.2f} Gbit/s[/]",
                f"{tunnel / veth:.2f}",
            )
    for version in ("IPv4", "IPv6"):
        veth, tunnel = (figures.ping_ms[over, version] for over in ("veth", "tunnel"))
        table.add_row(f"idle ping, {version}", f"{veth:.2f} ms", f"[bold]{tunnel:.2f} ms[/]", "")
    table.add_section()
    table.add_row("[bold]inner packets, from /metrics", *("in", "out", "dropped"), style="bold")
    for direction, counts in figures.packets.items():
        table.add_row(direction, *(f"{count:,}" for count in counts))
    return table


def demonstrate(console: Console, wire: str) -> None:
    """Run the demonstration and print its table. Raises FastunError."""
    columns = (SpinnerColumn("line"), BarColumn(20), TimeElapsedColumn())
    progress = Progress(
        *columns,
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a file gets the steps as lines instead
    )
    with ExitStack() as stack:
        stack.enter_context(progress)
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastun-demo-"))
        lab = stack.enter_context(Lab())
        figures = Demo(lab, Path(directory), progress, wire).run()
    console.print(report(figures, wire))


def main() -> int:
    """Entry point of ``python -m bench.demo``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__.splitlines()[0])
    parser.add_argument("--wire", choices=SAFETY, default="wireguard", help="default: %(default)s")
    wire = parser.parse_args().wire
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    try:
        again = (sys.executable, "-m", "bench.demo", *sys.argv[1:])
        entry.enter(PROGRAMS, again, "sudo ./run demo")
        demonstrate(console, wire)
    except KeyboardInterrupt:
        errors.print("interrupted")
    except FastunError as error:
        errors.print(f"[bold red]demo:[/] {escape(str(error))}", soft_wrap=True)
        if isinstance(error, GatewayFailed):
            for line in error.log_lines:
                errors.print(f"    {escape(line)}", soft_wrap=True)
        return error.exit_code
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
