"""What a scrape reads from, and one function a metric family (or kind of family) that reads it.

The functions run in a scrape's thread: they read shared memory, the kernel and plain attributes of
the gateway. No lock is shared with the workers or the event loop, and no call goes into the loop.
fastun.metric_families says which function stands behind which name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastun import __version__
from fastun._native import DIRECTIONS, DROPS, ROLES, Ring, Stats, TcpInfo

if TYPE_CHECKING:
    from fastun.gateway import Gateway, Link
    from fastun.lane import Worker

CONSUMERS = ("link-writer", "tun-writer")

# The system calls that each role makes; the others would be series that are always 0.
CALLS_OF_ROLE = {
    "tun-reader": ("read", "ppoll", "futex_wait", "futex_wake"),
    "link-writer": ("writev", "ppoll", "futex_wait", "futex_wake"),
    "link-reader": ("readv", "ppoll", "futex_wait", "futex_wake"),
    "tun-writer": ("write", "futex_wait", "futex_wake"),
}


@dataclass(frozen=True, slots=True)
class LaneView:
    """What a scrape reads of one lane."""

    label: str
    stats: Stats
    rings: dict[str, Ring]
    workers: dict[str, Worker]


@dataclass(frozen=True, slots=True)
class Source:
    """What one scrape reads from.

    ``link`` is the one that was up when the scrape began, ``tcp`` its state, None where it ended
    meanwhile. ``n_retransmits`` counts those of all links so far.
    """

    gateway: Gateway
    lanes: tuple[LaneView, ...]
    link: Link | None
    tcp: TcpInfo | None
    n_retransmits: int
    device: dict[str, int]

    @property
    def peer(self) -> str:
        """The peer's configured name."""
        return self.gateway.settings.peer_name

    def workers(self) -> Iterator[tuple[LaneView, str, tuple[str, str, str]]]:
        """Yield each lane with each role and its labels: direction, role, lane."""
        for lane in self.lanes:
            for role in ROLES:
                yield lane, role, (DIRECTIONS[role], role, lane.label)

    def counter(self, role: str, counter: str) -> int:
        """Return a counter of a role over all lanes."""
        return sum(lane.stats.counter(role, counter) for lane in self.lanes)

    def drops(self) -> dict[tuple[str, str], int]:
        """Return the dropped packets by role and reason over all lanes."""
        totals = {(drop.role, drop.reason): 0 for drop in DROPS}
        for lane in self.lanes:
            for drop, n_packets in lane.stats.drops():
                totals[drop.role, drop.reason] += n_packets
        return totals


class Histogram(NamedTuple):
    """Counts of values up to each bound, not cumulated; the last count is of all above."""

    upper_bounds: list[float]
    counts: list[int]
    sum: float


Value = float | Histogram
Samples = Iterable[tuple[tuple[str, ...], Value]]  # the labels' values, in order, and the value


# -- reading ----------------------------------------------------------------------------------


def info(source: Source) -> Samples:
    """Yield 1 under what runs."""
    settings = source.gateway.settings
    yield (__version__, settings.wire, settings.mode, settings.interface), 1


def counter(name: str) -> Callable[[Source], Samples]:
    """Return what reads the counter ``name`` of every worker."""

    def read(source: Source) -> Samples:
        for lane, role, labels in source.workers():
            yield labels, lane.stats.counter(role, name)

    return read


def dropped(source: Source) -> Samples:
    """Yield the dropped packets of every reason."""
    for (role, reason), n_packets in source.drops().items():
        yield (DIRECTIONS[role], role, reason), n_packets


def of_rings(read_bytes: Callable[[Ring], int]) -> Callable[[Source], Samples]:
    """Return what reads a number of every ring."""

    def read(source: Source) -> Samples:
        for lane in source.lanes:
            for direction, ring in lane.rings.items():
                yield (direction, lane.label), read_bytes(ring)

    return read


def batch_frames(source: Source) -> Samples:
    """Yield every worker's batches."""
    for lane, role, labels in source.workers():
        counts, n_frames = lane.stats.batch_frames(role)
        bounds = [float(2**i) for i in range(len(counts) - 1)]
        yield labels, Histogram(bounds, counts, n_frames)


def queue_delay(source: Source) -> Samples:
    """Yield the delays that the writers saw."""
    for lane, role, labels in source.workers():
        if role in CONSUMERS:
            counts, sum_ns = lane.stats.queue_delay(role)
            bounds = [2**i / 1e6 for i in range(len(counts) - 1)]
            yield labels, Histogram(bounds, counts, sum_ns / 1e9)


def syscalls(source: Source) -> Samples:
    """Yield the system calls of every role."""
    for role, calls in CALLS_OF_ROLE.items():
        for call in calls:
            yield (role, call), sum(lane.stats.calls(role, call) for lane in source.lanes)


def of_workers(read_value: Callable[[Worker], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of every worker."""

    def read(source: Source) -> Samples:
        for lane, role, (_, *labels) in source.workers():
            yield tuple(labels), read_value(lane.workers[role])

    return read


def of_device(kernel_field: str) -> Callable[[Source], Samples]:
    """Return what reads one of the kernel's counters, as Device.statistics() names it."""

    def read(source: Source) -> Samples:
        if kernel_field in source.device:  # not when somebody deleted the interface
            yield (source.gateway.device.name,), source.device[kernel_field]

    return read


def of_peer(read_value: Callable[[Source], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of the peer."""

    def read(source: Source) -> Samples:
        yield (source.peer,), read_value(source)

    return read


def peer_info(source: Source) -> Samples:
    """Yield 1 under what is at the other end, while there is a link."""
    if source.link is not None:
        wire = source.gateway.settings.wire
        yield (source.peer, wire, source.link.peer_software, "tcp"), 1


def received_packets(source: Source) -> int:
    """Return the packets that came from the peer and were passed on."""
    n_dropped = sum(n for (role, _), n in source.drops().items() if role == "link-reader")
    return source.counter("link-reader", "packets") - n_dropped


def of_tcp(read_value: Callable[[TcpInfo], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of the link's connection, while there is one."""

    def read(source: Source) -> Samples:
        if source.tcp is not None:
            yield (source.peer,), read_value(source.tcp)

    return read


def reconnects(source: Source) -> Samples:
    """Yield the links after the first."""
    yield (), source.gateway.counts.reconnects


def refused(source: Source) -> Samples:
    """Yield the connections closed unanswered."""
    yield (), source.gateway.counts.refused


def hello_failures(source: Source) -> Samples:
    """Yield the connections that became no link."""
    yield (), source.gateway.counts.failed_hellos
