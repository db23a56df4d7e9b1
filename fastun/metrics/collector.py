"""The collector: turns one look at a gateway into what Prometheus reads.

What is read together may be of slightly different instants, since nothing is stopped for a scrape;
a counter all the same never goes back.
"""

from __future__ import annotations

import functools
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastun import native
from fastun.host.socket_state import SocketState, socket_state
from fastun.metrics.families import FAMILIES, Family
from fastun.metrics.readings import Histogram, LaneView, PeerView, Source
from fastun.metrics.software import SoftwareLabel
from fastun.native import PeerTable, Ring, Stats

if TYPE_CHECKING:
    from fastun.gateway.gateway import Gateway


@dataclass
class CumulativeCount:
    """A count that the kernel begins at 0 with each link of a peer."""

    link_id: int = 0
    of_link: int = 0
    before: int = 0

    def see(self, link_id: int, n: int) -> None:
        """Take in what the kernel says of a link."""
        if link_id != self.link_id:
            self.before += self.of_link
            self.link_id = link_id
        self.of_link = n

    def total(self) -> int:
        """Return those of all links so far."""
        return self.before + self.of_link


@dataclass
class PeerCounts:
    """What is remembered of a peer between scrapes."""

    retransmits: CumulativeCount = field(default_factory=CumulativeCount)
    drops: CumulativeCount = field(default_factory=CumulativeCount)
    software: SoftwareLabel = field(default_factory=SoftwareLabel)


class GatewayCollector:
    """Reads all families from a gateway. Any thread; scrapes follow one another."""

    def __init__(self, gateway: Gateway) -> None:
        """Map the lane's shared memory once more: the lane may unmap its own during a scrape."""
        self._gateway = gateway
        lane = gateway.lane
        self._lane = LaneView(
            str(lane.index),
            Stats.attach(lane.stats.fd),
            PeerTable.attach(lane.peers.fd),
            {name: Ring.attach(ring.fd, ring.size_bytes) for name, ring in lane.rings.items()},
            lane.workers,
        )
        self._lock = threading.Lock()  # shared among scrapes only
        self._is_closed = False
        self._highest: dict[tuple[str, ...], float] = {}
        self._counts: dict[str, PeerCounts] = {}  # by peer

    def text(self) -> str:
        """Return all families with their samples of now, in Prometheus's text format 0.0.4."""
        with self._lock:
            if self._is_closed:
                return ""
            source = self._source()
            return "".join(line for family in FAMILIES for line in self._lines(family, source))

    def close(self) -> None:
        """Unmap, once no scrape runs; later ones are empty."""
        with self._lock:
            self._is_closed = True
            self._lane.stats.close()
            self._lane.peers.close()
            for ring in self._lane.rings.values():
                ring.close()

    def _source(self) -> Source:
        return Source(
            gateway=self._gateway,
            lanes=(self._lane,),
            peers=self._peers(),
            device=self._gateway.device.statistics(),
            udp=_udp_states(self._gateway),
        )

    def _peers(self) -> tuple[PeerView, ...]:
        # By name: the same series twice would cost Prometheus the whole scrape.
        slots = {
            slotted.peer.name: slot for slot, slotted in self._gateway.peer_slots.by_slot.items()
        }
        self._counts = {name: self._counts.get(name) or PeerCounts() for name in slots}
        return tuple(self._peer(name, slot) for name, slot in slots.items())

    def _peer(self, name: str, slot: int) -> PeerView:
        link = self._gateway.links.by_slot.get(slot)
        connection = None if link is None else link.connection
        tcp = None if connection is None else _tcp_info(connection)
        state = None if connection is None else _socket_state(connection)
        counts = self._counts[name]
        if link is not None and tcp is not None:
            counts.retransmits.see(link.id, tcp.n_retransmits)
        if link is not None and state is not None:
            counts.drops.see(link.id, state.n_drops)
        return PeerView(
            name,
            slot,
            link,
            tcp,
            state,
            counts.retransmits.total(),
            counts.drops.total(),
            "" if link is None else counts.software.of(link.peer_software),
        )

    def _lines(self, family: Family, source: Source) -> Iterator[str]:
        name = family.name
        yield f"# HELP {name} {_escape(family.help)}\n# TYPE {name} {family.type}\n"
        may_lag = family.type == "counter" and "peer" not in family.labels
        for values, value in family.read(source):
            labels = ",".join(map(_label, family.labels, values))
            if isinstance(value, Histogram):
                yield from _histogram_lines(name, labels, value)
            elif may_lag:
                yield _line(name, labels, self._monotonic((name, *values), value))
            else:
                yield _line(name, labels, value)

    def _monotonic(self, key: tuple[str, ...], value: float) -> float:
        """Return ``value``, or the highest reported so far.

        A sum of several reads can come out lower than before while its parts move, for instance
        between a worker's death and the booking of its processor time. Those of a peer are no such
        sums, and begin anew when the peer is changed.
        """
        highest = self._highest[key] = max(value, self._highest.get(key, value))
        return highest


def _tcp_info(connection: socket.socket) -> native.TcpInfo | None:
    try:
        return native.tcp_info(connection)
    except OSError:  # ended since
        return None


def _udp_states(gateway: Gateway) -> tuple[SocketState, ...]:
    try:
        return tuple(socket_state(each) for each in gateway.sockets.all())
    except OSError:  # closed since: the gateway is stopping
        return ()


def _socket_state(connection: socket.socket) -> SocketState | None:
    try:
        return socket_state(connection)
    except OSError:  # ended since
        return None


# -- the text format --------------------------------------------------------------------------

# https://prometheus.io/docs/instrumenting/exposition_formats/. Written here and not by
# prometheus_client, which takes three times as long for the 11,000 samples of 1,000 peers.


def _histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    bounds = [*map(str, histogram.upper_bounds), "+Inf"]
    cumulated = list(itertools.accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulated, strict=True):
        yield _line(f"{name}_bucket", f'{labels},le="{bound}"', count)
    yield _line(f"{name}_count", labels, cumulated[-1])
    yield _line(f"{name}_sum", labels, histogram.sum)


def _line(name: str, labels: str, value: float) -> str:
    # The plus makes a number of a bool.
    return f"{name}{{{labels}}} {+value}\n" if labels else f"{name} {+value}\n"


@functools.lru_cache(maxsize=4096)  # a peer has a dozen series, and the next scrape comes
def _label(name: str, value: str) -> str:
    quoted = _escape(value).replace('"', r"\"")
    return f'{name}="{quoted}"'


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
