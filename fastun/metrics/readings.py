"""What a scrape reads from, and one function a metric family (or kind of family) that reads it.

The functions run in a scrape's thread: they read shared memory, the kernel and plain attributes of
the gateway. No lock is shared with the workers or the event loop, and no call goes into the loop.
fastun.metrics.families says which function stands behind which name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastun import __version__, log
from fastun.host.socket_state import SocketState
from fastun.link.datagram.path_mtu import HINT_RESULTS, NARROWING_CAUSES
from fastun.link.stream.handshake import SealedHandshaker
from fastun.native import DIRECTIONS, DROPS, ROLES, PeerTable, Ring, Stats, TcpInfo
from fastun.session.refusal import Refusal

if TYPE_CHECKING:
    from fastun.gateway.gateway import Gateway, Link
    from fastun.lane.lane import Worker

CONSUMERS = ("link-writer", "tun-writer")

# What may come of a handshake, in the order of /metrics.
HANDSHAKE_RESULTS = ("ok", *Refusal)

# The system calls that each role makes; the others would be series that are always 0.
CALLS_OF_ROLE = {
    "tun-reader": ("read", "ppoll", "futex_wait", "futex_wake"),
    "link-writer": (
        "writev",
        "sendmmsg",
        "sendmsg",
        "ppoll",
        "epoll_wait",
        "futex_wait",
        "futex_wake",
    ),
    "link-reader": (
        "readv",
        "recvmmsg",
        "sendmsg",
        "getrandom",
        "epoll_wait",
        "futex_wait",
        "futex_wake",
    ),
    "tun-writer": ("write", "writev", "futex_wait", "futex_wake"),
}


@dataclass(frozen=True, slots=True)
class LaneView:
    """What a scrape reads of one lane."""

    label: str
    stats: Stats
    peers: PeerTable
    rings: dict[str, Ring]
    workers: dict[str, Worker]


@dataclass(frozen=True, slots=True)
class PeerView:
    """What a scrape reads of one peer.

    ``link`` is the one that was up when the scrape began, ``tcp`` and ``socket`` its state, None
    where it ended meanwhile. ``n_retransmits`` and ``n_drops`` count those of all its links so far.
    """

    name: str
    slot: int
    link: Link | None
    tcp: TcpInfo | None
    socket: SocketState | None
    n_retransmits: int
    n_drops: int
    software: str  # as a label


@dataclass(frozen=True, slots=True)
class Source:
    """What one scrape reads from."""

    gateway: Gateway
    lanes: tuple[LaneView, ...]
    peers: tuple[PeerView, ...]
    device: dict[str, int]
    udp: tuple[SocketState, ...]  # by index

    def workers(self) -> Iterator[tuple[LaneView, str, tuple[str, str, str]]]:
        """Yield each lane with each role and its labels: direction, role, lane."""
        for lane in self.lanes:
            for role in ROLES:
                yield lane, role, (DIRECTIONS[role], role, lane.label)

    def of_slot(self, slot: int, fields: tuple[str, ...]) -> int:
        """Return the sum of fields of the peer table over all lanes."""
        return sum(lane.peers.read(slot, field) for lane in self.lanes for field in fields)

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


def refused_offloads(source: Source) -> Samples:
    """Yield what the kernel refused of the writers' offloads."""
    for role in CONSUMERS:
        yield (role,), sum(lane.stats.counter(role, "refused_offloads") for lane in source.lanes)


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


def of_peers(read_value: Callable[[PeerView], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of every peer."""

    def read(source: Source) -> Samples:
        for peer in source.peers:
            yield (peer.name,), read_value(peer)

    return read


def of_peer_table(*fields: str) -> Callable[[Source], Samples]:
    """Return what reads the sum of some PEER_FIELDS of every peer."""

    def read(source: Source) -> Samples:
        for peer in source.peers:
            yield (peer.name,), source.of_slot(peer.slot, fields)

    return read


def peer_info(source: Source) -> Samples:
    """Yield 1 for every peer with a link, under what is at its other end."""
    wire = source.gateway.settings.wire
    for peer in source.peers:
        if peer.link is not None:
            yield (peer.name, wire, peer.software, peer.link.transport), 1


def path_mtu(source: Source) -> Samples:
    """Yield the MTU of the path to each peer on UDP, once it is known."""
    for peer in source.peers:
        if peer.link is not None and peer.link.path_mtu > 0:
            yield (peer.name,), peer.link.path_mtu


def path_narrowings(source: Source) -> Samples:
    """Yield how often path MTUs were lowered, by cause."""
    if source.gateway.datagrams is not None:
        for cause in NARROWING_CAUSES:
            yield (cause,), source.gateway.datagrams.path_counts.narrowings[cause]


def path_hints(source: Source) -> Samples:
    """Yield the number of ICMP messages about paths, by result."""
    if source.gateway.datagrams is not None:
        for result in HINT_RESULTS:
            yield (result,), source.gateway.datagrams.path_counts.hints[result]


def last_handshake(source: Source) -> Samples:
    """Yield when each peer's last handshake succeeded, 0 for never. The sealed wire's only."""
    counts = source.gateway.session_counts
    if source.gateway.sessions is not None:
        for peer in source.peers:
            yield (peer.name,), counts.last_handshake.get(peer.slot, 0)


def handshakes(source: Source) -> Samples:
    """Yield the handshakes by what became of them. The sealed wire's only."""
    handshaker = source.gateway.handshaker
    if isinstance(handshaker, SealedHandshaker):
        for result in HANDSHAKE_RESULTS:
            yield (result,), handshaker.exchange.results[result]


def log_lines_dropped(_: Source) -> Samples:
    """Yield the lines that the log did not get, by reason."""
    for reason, n_lines in log.lines_dropped().items():
        yield (reason,), n_lines


def rekeys(source: Source) -> Samples:
    """Yield how often sessions got new keys. The sealed wire's only."""
    if source.gateway.sessions is not None:
        yield (), source.gateway.session_counts.n_rekeys


def of_tcp(read_value: Callable[[TcpInfo], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of every link's connection."""

    def read(source: Source) -> Samples:
        for peer in source.peers:
            if peer.tcp is not None:
                yield (peer.name,), read_value(peer.tcp)

    return read


def socket_receive_queue(source: Source) -> Samples:
    """Yield what waits in every link's socket for the link-reader."""
    for peer in source.peers:
        if peer.socket is not None:
            yield (peer.name,), peer.socket.receive_queue_bytes


def of_udp_sockets(read_value: Callable[[SocketState], float]) -> Callable[[Source], Samples]:
    """Return what reads a number of every UDP socket."""

    def read(source: Source) -> Samples:
        for index, state in enumerate(source.udp):
            yield (str(index),), read_value(state)

    return read


def reconnects(source: Source) -> Samples:
    """Yield the links of peers that had one before."""
    yield (), source.gateway.links.n_reconnects


def refused(source: Source) -> Samples:
    """Yield the connections closed unanswered."""
    yield (), source.gateway.counts.refused


def hello_failures(source: Source) -> Samples:
    """Yield the connections that became no link."""
    yield (), source.gateway.counts.failed_hellos
