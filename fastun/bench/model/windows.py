"""What each stage of a tunnel spends while a load runs, and how much went through meanwhile.

Two looks, one at the beginning and one at the end of a window: at the counts of both gateways, at
the processor time of their workers, of source and sink, and at that of softirqs.

A veth pair takes a frame up on the other end by a softirq of the sending process. Most of them are
on top of what sends the data (the sender's link-writer, or its tun-reader where that sends in
place) and what sends TCP's acknowledgements, the receiver's link-reader. On hosts of their own it
is the receiver's kernel that spends it; so it is taken off these, as each has spent, and is the
stage "kernel" there. Where others use the machine, softirqs are theirs by what they spend.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fastun.bench.model import cpu_clock
from fastun.bench.model.figures import NsByStage, Window
from fastun.bench.model.prediction import ANSWERS, KERNEL, SINK, SOURCE
from fastun.bench.protocol import PORT
from fastun.bench.stages import RECEIVING, SENDING, status_of
from fastun.errors import RuntimeFailure
from fastun.native import ROLES

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.tunnel import Tunnel
    from fastun.status.reply import Stage, Status

# TCP inside has found its speed, and so have the workers.
WARM_UP_S = 0.3
_BEGIN_S = 10.0
_LOAD = (sys.executable, "-m", "fastun.bench.model.load")
_IN_PLACE = "fastun_in_place_packets_total"
# No more is taken off a stage: to send takes as long as to receive, and what is sampled is rough.
_SOFTIRQ_SHARE_MAX = 0.5
_HEADER_BYTES = {"tcp": 52, "udp": 28}


class Load(NamedTuple):
    """A load: its name, its kind, and what its source is started with."""

    name: str
    kind: str
    of_source: tuple[str, ...]


def streams(n_flows: int, *, mss: int = 0) -> Load:
    """Return TCP streams of as much as goes; with an MSS, of shorter packets."""
    name = f"{n_flows} TCP stream{'s' * (n_flows > 1)}" + f", MSS {mss}" * (mss > 0)
    return Load(name, "tcp", (str(n_flows), str(mss)))


def datagrams(name: str, ports: Sequence[int]) -> Load:
    """Return small datagrams from these ports."""
    return Load(name, "udp", (",".join(map(str, ports)),))


class _Of(msgspec.Struct):
    """What a role of an end has counted and spent, over all lanes."""

    pids: tuple[int | None, ...] = ()
    frames: int = 0
    packets: int = 0
    bytes: int = 0
    cpu_ns: int = 0
    crossed: int = 0

    def add(self, stage: Stage) -> None:
        self.pids = (*self.pids, stage.pid)
        self.frames += stage.frames
        self.packets += stage.packets
        self.bytes += stage.bytes
        if stage.pid is not None:
            self.cpu_ns += cpu_clock.of_process(stage.pid)


class _Look(NamedTuple):
    at_s: float
    sender: dict[str, _Of]
    receiver: dict[str, _Of]
    source_ns: int
    sink_ns: int
    softirq_ns: int
    softirq_threads_ns: int
    machine_ns: int
    in_place: float


class Watch:
    """Takes windows of a tunnel, whose client sends, or of several at once as if they were one."""

    def __init__(self, *tunnels: Tunnel) -> None:
        """Look at `tunnels`, which are up; at least one."""
        self._tunnels = tunnels
        client = tunnels[0].client.host
        with client.socket(kind=socket.SOCK_DGRAM) as trial:
            self._charges = client.inside(lambda: cpu_clock.charges_processes(trial, "127.0.0.1"))
        self._threads = cpu_clock.softirq_threads()

    def take(self, load: Load, seconds: float) -> Window:
        """Return a window of `seconds` of this load, in each of the tunnels. RuntimeFailure."""
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(_running(each, load)) for each in self._tunnels]
            time.sleep(WARM_UP_S)
            before = self._look(running)
            time.sleep(seconds)
            after = self._look(running)
        return self._window(load, before, after)

    def _look(self, running: Sequence[tuple[int, int]]) -> _Look:
        clients, servers = zip(*((each.client, each.server) for each in self._tunnels), strict=True)
        try:
            return _Look(
                time.monotonic(),
                _by_role(map(status_of, clients)),
                _by_role(map(status_of, servers)),
                sum(cpu_clock.of_process(source) for source, _ in running),
                sum(cpu_clock.of_process(sink) for _, sink in running),
                cpu_clock.softirq_ns(),
                sum(map(cpu_clock.of_process, self._threads)),
                cpu_clock.machine_ns(),
                sum(each.scrape().total(_IN_PLACE, role=SENDING[0]) for each in clients),
            )
        except ProcessLookupError as error:
            raise RuntimeFailure(f"cannot measure processor time: {error}; run again") from error

    def _window(self, load: Load, before: _Look, after: _Look) -> Window:
        sender, receiver = (
            {role: _spent(first[role], last[role]) for role in ROLES}
            for first, last in zip(before[1:3], after[1:3], strict=True)
        )
        taken, opened = sender[SENDING[0]], receiver[RECEIVING[0]]
        if not _once(taken) or not opened.packets:
            raise RuntimeFailure(f"{load.name}: nothing went through the tunnel; run again")
        sender_ns, receiver_ns = self._by_stage(sender, receiver, before, after)
        seconds = after.at_s - before.at_s
        ours_ns = sum(sender_ns.values()) + sum(receiver_ns.values())
        return Window(
            load=load.name,
            seconds=seconds,
            others_cores=max(0.0, (after.machine_ns - before.machine_ns - ours_ns) / seconds / 1e9),
            frames=round(taken.frames * _once(taken)),
            packets=taken.packets - taken.crossed,
            bytes=round(taken.bytes * _once(taken)),
            crossed_packets=taken.crossed,
            whole_share=_whole_share(taken, opened),
            received_bytes=max(0, opened.bytes - _HEADER_BYTES[load.kind] * opened.frames),
            sender_ns=sender_ns,
            receiver_ns=receiver_ns,
        )

    def _by_stage(
        self, sender: dict[str, _Of], receiver: dict[str, _Of], before: _Look, after: _Look
    ) -> tuple[NsByStage, NsByStage]:
        """Return what the stages spent, each as if it had had all packets that were taken in."""
        taken = sender[SENDING[0]]
        n_packets = taken.packets - taken.crossed

        def whole(of: _Of) -> float:
            return of.cpu_ns * n_packets / of.packets if of.packets else float(of.cpu_ns)

        threads_ns = after.softirq_threads_ns - before.softirq_threads_ns
        softirq_ns = (after.softirq_ns - before.softirq_ns) * _share_of_ours(before, after)
        kernel_ns = max(softirq_ns, float(threads_ns))
        writer_ns, reader_ns = whole(sender[SENDING[1]]), whole(receiver[RECEIVING[0]])
        in_place_ns = taken.cpu_ns * min(1.0, (after.in_place - before.in_place) / n_packets)
        below_ns = in_place_ns + writer_ns + reader_ns
        off = 0.0
        if self._charges and below_ns:
            off = min(_SOFTIRQ_SHARE_MAX, (kernel_ns - threads_ns) / below_ns)
            kernel_ns = threads_ns + off * below_ns
        return (
            {
                SOURCE: after.source_ns - before.source_ns,
                SENDING[0]: taken.cpu_ns - off * in_place_ns,
                SENDING[1]: writer_ns * (1 - off),
                ANSWERS: sum(sender[role].cpu_ns for role in RECEIVING),
            },
            {
                KERNEL: kernel_ns,
                RECEIVING[0]: reader_ns * (1 - off),
                RECEIVING[1]: whole(receiver[RECEIVING[1]]),
                SINK: after.sink_ns - before.sink_ns,
                ANSWERS: sum(receiver[role].cpu_ns for role in SENDING),
            },
        )


def _whole_share(taken: _Of, opened: _Of) -> float:
    """Return which part of the packets that were taken in super-packets came in them as well."""
    if taken.frames == taken.packets:
        return 0.0
    single = (opened.frames / opened.packets - taken.frames / taken.packets) / (
        1 - taken.frames / taken.packets
    )
    return min(1.0, max(0.0, 1 - single))


def _share_of_ours(before: _Look, after: _Look) -> float:
    """Return which part of what the processors have spent was for the tunnel and its load."""
    machine_ns = after.machine_ns - before.machine_ns
    ours_ns = after.source_ns - before.source_ns + after.sink_ns - before.sink_ns
    for first, last in zip(before[1:3], after[1:3], strict=True):
        ours_ns += sum(last[role].cpu_ns - first[role].cpu_ns for role in ROLES)
    return min(1.0, ours_ns / machine_ns) if machine_ns else 1.0


def _by_role(statuses: Iterable[Status]) -> dict[str, _Of]:
    totals = {role: _Of() for role in ROLES}
    for lane in itertools.chain.from_iterable(status.lanes for status in statuses):
        for direction in (lane.outbound, lane.inbound):
            for stage in (direction.reader, direction.writer):
                totals[stage.role].add(stage)
        totals[SENDING[0]].crossed += lane.crossed_packets
    return totals


def _spent(first: _Of, last: _Of) -> _Of:
    if first.pids != last.pids:
        raise RuntimeFailure("a worker was restarted meanwhile; run again")
    return _Of(
        first.pids,
        last.frames - first.frames,
        last.packets - first.packets,
        last.bytes - first.bytes,
        last.cpu_ns - first.cpu_ns,
        last.crossed - first.crossed,
    )


def _once(taken: _Of) -> float:
    """Return which part of what tun-readers took in came from the device: the rest crossed."""
    return (taken.packets - taken.crossed) / taken.packets if taken.packets else 0.0


@contextlib.contextmanager
def _running(tunnel: Tunnel, load: Load) -> Iterator[tuple[int, int]]:
    """Run a load through a tunnel meanwhile; yield the processes of its source and its sink."""
    client, server = tunnel.client.host, tunnel.server.host
    where = (tunnel.server.inner_address, str(PORT))
    with _begun(server, f"sink-{load.kind}", *where) as sink:  # noqa: SIM117 (the order matters)
        with _begun(client, f"source-{load.kind}", *where, *load.of_source) as source:
            yield source, sink


@contextlib.contextmanager
def _begun(host: Host, *arguments: str) -> Iterator[int]:
    process = host.spawn(*_LOAD, *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    try:
        if (
            not select.select([process.stdout], [], [], _BEGIN_S)[0]
            or not process.stdout.readline()
        ):
            raise RuntimeFailure(f"{arguments[0]} did not begin within {_BEGIN_S:g} s; run again")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
