"""A second way between two hosts, through a router that can be slow or lossy.

    client  10.0.0.2  ======== wire ========  10.0.0.1  server
            10.0.2.2 --- 10.0.2.1 router 10.0.1.2 --- 10.0.1.1

What goes to the other host's wire address takes the detour only while a measure wants it to. The
queue of a slow link is on a host of its own because the kernel keeps a local queue short for
a local TCP sender (TCP small queues): no sender has that help from a router on its way.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.tunnel.addresses import OUTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Cable, Lab

# A queue as a good access router has it, in time; see tc-tbf(8), `latency`.
QUEUE_MS = 50
# tbf releases what it saved up at once: two milliseconds' worth, and no less than a few packets.
BURST_S = 0.002
BURST_MIN_BYTES = 16_000


@dataclass(frozen=True, slots=True)
class Leg:
    """Host and router on one wire: devices, and how the host reaches the other host over it."""

    host: Host
    cable: Cable
    gateway: str
    destination: str
    source: str


@dataclass(frozen=True, slots=True)
class Detour:
    """The router of one case and its two legs."""

    router: Host
    legs: tuple[Leg, Leg]

    @contextlib.contextmanager
    def limited(self, bits_per_second: float) -> Iterator[None]:
        """Take the detour, at this rate at most in either direction, behind queues of 50 ms."""
        burst = max(BURST_MIN_BYTES, int(bits_per_second * BURST_S / 8))
        rate = f"rate {bits_per_second:.0f}bit burst {burst}b latency {QUEUE_MS}ms"
        with contextlib.ExitStack() as undo:
            for leg in self.legs:
                where = ("dev", leg.cable.b_device, "root")
                self.router.run("tc", "qdisc", "replace", *where, "tbf", *rate.split())
                undo.callback(self.router.run, "tc", "qdisc", "delete", *where, check=False)
            undo.enter_context(self._taken())
            yield

    @contextlib.contextmanager
    def lossy(self, per_thousand: int) -> Iterator[None]:
        """Take the detour, which loses packets at random in both directions."""
        rule = f"numgen random mod 1000 < {per_thousand} drop;"
        chain = f"chain passing {{ type filter hook forward priority 0; {rule} }};"
        with contextlib.ExitStack() as undo:
            self.router.run("nft", f"table ip loss {{ {chain} }}")
            undo.callback(self.router.run, "nft", "delete table ip loss", check=False)
            undo.enter_context(self._taken())
            yield

    @contextlib.contextmanager
    def _taken(self) -> Iterator[None]:
        """Lead what goes to the wire's IPv4 addresses over the router; sources stay the same."""
        with contextlib.ExitStack() as undo:
            for leg in self.legs:
                where = (f"{leg.destination}/32", "via", leg.gateway)
                leg.host.ip("route", "replace", *where, "src", leg.source)
                undo.callback(leg.host.run, "ip", "route", "delete", *where, check=False)
            yield


def make_detour(lab: Lab, name: str, server: Host, client: Host) -> Detour:
    """Make the router between two hosts that are wired already. Raises LabError."""
    router = lab.host(f"router-{name}")
    router.sysctl("net.ipv4.ip_forward", 1)
    ends = OUTER.server.bare_v4, OUTER.client.bare_v4
    legs = (
        _make_leg(lab, router, server, "10.0.1", ends),
        _make_leg(lab, router, client, "10.0.2", ends[::-1]),
    )
    return Detour(router, legs)


def _make_leg(lab: Lab, router: Host, host: Host, network: str, ends: tuple[str, str]) -> Leg:
    """Wire a host to the router; `ends` are its own address on the direct wire and the other's."""
    source, destination = ends
    cable = lab.wire(host, router, [f"{network}.1/24"], [f"{network}.2/24"])
    # Packets of the MTU at most, as on a cable. A veth pair passes super-packets of 64 KiB whole,
    # and one of them lost would be 45 packets lost at once.
    host.ip("link", "set", cable.a_device, "gso_max_segs", "1")
    router.ip("route", "add", f"{source}/32", "via", f"{network}.1")
    return Leg(host, cable, f"{network}.2", destination, source)
