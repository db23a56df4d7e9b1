"""What a scrape reads from, and one function a metric family (or kind of family) that reads it.

All read one view of the gateway. fastun.metrics.families says which function reads which metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from fastun import __version__, log
from fastun.gateway.fleet_watch import FleetView
from fastun.gateway.view import (
    GatewayView,
    Histogram,
    LinkView,
    PeerView,
    RingView,
    WorkerView,
)
from fastun.gateway.worker_state import STATES
from fastun.host.socket_state import SocketState
from fastun.native import DIRECTIONS, DROPS

WRITERS = ("link-writer", "tun-writer")
READERS = ("tun-reader", "link-reader")

# The system calls that each role makes; the others would be series that are always 0.
CALLS_OF_ROLE = {
    "tun-reader": ("read", "sendmsg", "ppoll", "futex_wait", "futex_wake"),
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
        "recvmsg",
        "recvmmsg",
        "write",
        "sendmsg",
        "getrandom",
        "epoll_wait",
        "futex_wait",
        "futex_wake",
    ),
    "tun-writer": ("write", "writev", "ppoll", "futex_wait", "futex_wake"),
}


class ScrapedPeer(msgspec.Struct, frozen=True, gc=False):
    """A peer, and what scrapes before this one saw of it.

    ``n_retransmits`` and ``n_drops`` count those of all its links so far, ``software`` is a label.
    """

    view: PeerView
    n_retransmits: int
    n_drops: int
    software: str


class Source(msgspec.Struct, frozen=True):
    """What one scrape reads from. Each name is among ``peers`` once."""

    gateway: GatewayView
    peers: tuple[ScrapedPeer, ...]

    def links(self) -> Iterable[tuple[str, LinkView]]:
        """Yield the peers that have a link, by name."""
        for peer in self.peers:
            if peer.view.link is not None:
                yield peer.view.name, peer.view.link


Value = float | Histogram
Samples = Iterable[tuple[tuple[str, ...], Value]]  # the labels' values, in order, and the value
Read = Callable[[Source], Samples]


# -- workers and rings ------------------------------------------------------------------------


def info(source: Source) -> Samples:
    """Yield 1 under what runs."""
    what = source.gateway.configuration
    yield (__version__, what.wire, what.mode, what.interface), 1


def of_workers(read_value: Callable[[WorkerView], Value]) -> Read:
    """Return what reads a value of every worker, by direction, role and lane."""

    def read(source: Source) -> Samples:
        for lane, worker in source.gateway.workers():
            yield (worker.direction, worker.role, str(lane.index)), read_value(worker)

    return read


def of_processes(read_value: Callable[[WorkerView], float]) -> Read:
    """Return what reads a value of every worker, by role and lane."""

    def read(source: Source) -> Samples:
        for lane, worker in source.gateway.workers():
            yield (worker.role, str(lane.index)), read_value(worker)

    return read


def forbidden_calls(source: Source) -> Samples:
    """Yield the system calls for which workers were killed, by role, lane and number."""
    for lane, worker in source.gateway.workers():
        for call, n_times in worker.forbidden_calls.items():
            yield (worker.role, str(lane.index), call), n_times


def unresponsive(source: Source) -> Samples:
    """Yield how often workers were replaced that were stopped or stuck, by role, lane and which."""
    for lane, worker in source.gateway.workers():
        for why, n_times in worker.unresponsive.items():
            yield (worker.role, str(lane.index), why), n_times


def counter(name: str) -> Read:
    """Return what reads one of native.COUNTERS of every worker."""
    return of_workers(lambda worker: worker.counters[name])


def queue_delay(source: Source) -> Samples:
    """Yield the delays that the writers measured."""
    for lane, worker in source.gateway.workers():
        if worker.role in WRITERS:
            yield (worker.direction, worker.role, str(lane.index)), worker.queue_delay


def worker_states(source: Source) -> Samples:
    """Yield 1 for the state that each worker is in, and 0 for the others."""
    for lane, worker in source.gateway.workers():
        for state in STATES:
            labels = (worker.direction, worker.role, str(lane.index), state)
            yield labels, state == worker.state


def dropped(source: Source) -> Samples:
    """Yield the dropped packets of every reason, over all lanes."""
    for drop in DROPS:
        n_packets = sum(worker.drops[drop.reason] for worker in source.gateway.of_role(drop.role))
        yield (DIRECTIONS[drop.role], drop.role, drop.reason), n_packets


def syscalls(source: Source) -> Samples:
    """Yield the system calls of every role, over all lanes."""
    for role, calls in CALLS_OF_ROLE.items():
        for call in calls:
            yield (role, call), sum(worker.calls[call] for worker in source.gateway.of_role(role))


def of_roles(roles: Iterable[str], counter: str) -> Read:
    """Return what reads a counter of these workers, over all lanes."""

    def read(source: Source) -> Samples:
        for role in roles:
            workers = source.gateway.of_role(role)
            yield (role,), sum(worker.counters[counter] for worker in workers)

    return read


def of_rings(read_bytes: Callable[[RingView], int]) -> Read:
    """Return what reads a number of every ring."""

    def read(source: Source) -> Samples:
        for lane in source.gateway.lanes:
            for direction, ring in lane.rings.items():
                yield (direction, str(lane.index)), read_bytes(ring)

    return read


# -- the host ---------------------------------------------------------------------------------


def of_device(kernel_field: str) -> Read:
    """Return what reads one of the kernel's counters, as Device.statistics() names it."""

    def read(source: Source) -> Samples:
        device = source.gateway.device
        if kernel_field in device.statistics:  # not once the interface is deleted
            yield (device.name,), device.statistics[kernel_field]

    return read


def device_up(source: Source) -> Samples:
    """Yield whether the device is up."""
    device = source.gateway.device
    yield (device.name,), device.is_up


def host_repairs(source: Source) -> Samples:
    """Yield what was made again, by kind."""
    for kind, n_repairs in source.gateway.device.repairs.items():
        yield (kind,), n_repairs


def dns_up(source: Source) -> Samples:
    """Yield whether names are looked up as configured, where the tunnel has DNS servers."""
    if source.gateway.device.dns is not None:
        yield (), not source.gateway.device.dns.fault


def draining(source: Source) -> Samples:
    """Yield whether a server is drained."""
    if source.gateway.configuration.role == "serve":
        yield (), source.gateway.drain is not None


def of_fleet(read_value: Callable[[FleetView], float]) -> Read:
    """Return what reads a number of the fleet's directory, where the gateway belongs to one."""

    def read(source: Source) -> Samples:
        if source.gateway.fleet is not None:
            yield (), read_value(source.gateway.fleet)

    return read


def of_udp_sockets(read_value: Callable[[SocketState], float]) -> Read:
    """Return what reads a number of every UDP socket."""

    def read(source: Source) -> Samples:
        for index, state in enumerate(source.gateway.udp_sockets):
            yield (str(index),), read_value(state)

    return read


def log_lines_dropped(_: Source) -> Samples:
    """Yield the lines that were not written to the log, by reason."""
    for reason, n_lines in log.lines_dropped().items():
        yield (reason,), n_lines


def summed(name: str) -> Read:
    """Return what reads the sum of one of native.COUNTERS over all workers."""

    def read(source: Source) -> Samples:
        workers = [worker for _, worker in source.gateway.workers()]
        yield (), sum(worker.counters[name] for worker in workers)

    return read


def crossed(source: Source) -> Samples:
    """Yield the packets that went from each lane to others."""
    for lane in source.gateway.lanes:
        yield (str(lane.index),), lane.workers["tun-reader"].counters["crossed"]


# -- counts of the gateway --------------------------------------------------------------------


def path_narrowings(source: Source) -> Samples:
    """Yield how often path MTUs were lowered, by cause."""
    if source.gateway.paths is not None:
        for cause, n in source.gateway.paths.narrowings.items():
            yield (cause,), n


def path_hints(source: Source) -> Samples:
    """Yield the number of ICMP messages about paths, by result."""
    if source.gateway.paths is not None:
        for result, n in source.gateway.paths.hints.items():
            yield (result,), n


def handshakes(source: Source) -> Samples:
    """Yield the handshakes by result."""
    if source.gateway.sessions is not None:
        for result, n in source.gateway.sessions.handshakes.items():
            yield (result,), n


def rekeys(source: Source) -> Samples:
    """Yield how often sessions got new keys."""
    if source.gateway.sessions is not None:
        yield (), source.gateway.sessions.rekeys


def is_reloaded(source: Source) -> Samples:
    """Yield whether what was read last is in effect."""
    yield (), float(not source.gateway.configuration.read.error)


def count(name: str) -> Read:
    """Return what reads one of the gateway's counts."""

    def read(source: Source) -> Samples:
        yield (), source.gateway.counts[name]

    return read
