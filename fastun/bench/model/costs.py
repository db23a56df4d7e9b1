"""Measuring what each stage costs on each wire, between two hosts of this machine.

    client, which sends  === veth, MTU 1500 ===  server, which receives

Three loads tell a frame, a packet and a byte apart: a stream in super-packets of some 45 packets,
one in super-packets of some 120, and small datagrams one by one. The first is a stream as any is,
so its figures count most where the three do not agree. Many streams at once cost more, since stages
sleep and wake more often and caches hold less; they are a load of their own, in the place of the
first. A second tunnel of one lane, with half of the streams, says what it costs that more lanes
share the cores: the two have nothing in common but these.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from fastun.bench.model.figures import FlowCosts, Window, WireCosts
from fastun.bench.model.fit import Sample, fit
from fastun.bench.model.prediction import ANSWERS, SINK, SOURCE, Crowding, Frame, StageCost
from fastun.bench.model.windows import Watch, datagrams, streams
from fastun.bench.model.wires import WIRES, Wire
from fastun.bench.protocol import PORT
from fastun.bench.stages import SENDING, status_of
from fastun.errors import RuntimeFailure
from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.tunnel import Tunnel, start_tunnel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastun.lab.tunnel import GatewayProcess

SERVER, CLIENT = "10.0.0.1/24", "10.0.0.2/24"
SHORT_MSS = 536

N_MANY = 8

STREAM = streams(1)
MANY = streams(N_MANY)
#: In each of two tunnels.
HALF = streams(N_MANY // 2)
SHORT_PACKETS = streams(1, mss=SHORT_MSS)
SMALL = datagrams("small datagrams", [0])
LOADS = (STREAM, MANY, SHORT_PACKETS, SMALL)
#: How many steps a measurement has: each wire is started and has its loads, and then crossing.
N_STEPS = 1 + sum(1 + len(LOADS) + wire.has_lanes for wire in WIRES) + 2
#: Of the first window of three: however much the others disagree, it fits within 5 %.
WEIGHT_OF_STREAM = 30.0
# More would have more cores carry less.
_CROWDED_BUSY_MAX = 2.0
# Two lanes, so with so many ports both kinds are there but for one time in 2,000.
_PORTS = range(20001, 20013)
_CROSSING_LANES = 2
_CROSSING_TURNS = 2
_PLAIN_END = (sys.executable, "-m", "fastun.bench.model.plain_end")
_ALL_LANES = (sys.executable, "-m", "fastun.bench.model.all_lanes")

Step = Callable[[str], None]


class Hosts:
    """Two hosts, and tunnels between them one after the other, or side by side."""

    def __init__(self, lab: Lab, directory: Path, suffix: str = "") -> None:
        """Make both; `directory` takes what gateways write, `suffix` tells several pairs apart."""
        self._directory = directory / f"hosts{suffix}"
        self._directory.mkdir()
        self._n_tunnels = 0
        self._server, self._client = (lab.host(name + suffix) for name in ("server", "client"))
        lab.wire(self._server, self._client, [SERVER], [CLIENT])

    @contextmanager
    def tunnel(self, wire: Wire, lanes: tuple[int, int] = (1, 1)) -> Iterator[Tunnel]:
        """Have a tunnel meanwhile, with so many lanes at client and server."""
        self._n_tunnels += 1
        directory = self._directory / str(self._n_tunnels)
        directory.mkdir()
        client, server = ([] if n == 1 else ["--lanes", str(n)] for n in lanes)
        program = _ALL_LANES if max(lanes) > 1 else ()
        tunnel = start_tunnel(
            self._server,
            self._client,
            SERVER.partition("/")[0],
            directory,
            wire=wire.wire,
            transport=wire.transport,
            server_arguments=server,
            client_arguments=client,
            program=program if wire.says_hello else _PLAIN_END,
        )
        with ExitStack() as stack:
            for gateway in (tunnel.server, tunnel.client):
                stack.callback(gateway.stop)
            tunnel.wait_up()
            yield tunnel


def measure(hosts: Hosts, others: Hosts, seconds: float, step: Step) -> list[WireCosts]:
    """Return what the stages cost on all wires; `others` has the second tunnels. FastunError."""
    measured = []
    for wire in WIRES:
        step(f"{wire.name}: starting")
        with ExitStack() as stack:
            tunnel = stack.enter_context(hosts.tunnel(wire))
            watch = Watch(tunnel)
            windows = []
            for load in LOADS:
                step(f"{wire.name}: {load.name}")
                windows.append(watch.take(load, seconds))
            crowded = None
            if wire.has_lanes:
                step(f"{wire.name}: {HALF.name} in each of two tunnels")
                second = stack.enter_context(others.tunnel(wire))
                crowded = Watch(tunnel, second).take(HALF, seconds)
        measured.append(costs_of(wire, windows, crowded))
    return measured


def costs_of(wire: Wire, windows: Sequence[Window], crowded: Window | None) -> WireCosts:
    """Return what the stages of a wire cost by windows of all LOADS, in their order.

    `crowded` is one of two tunnels at once.
    """
    by_load = dict(zip(LOADS, windows, strict=True))
    found = WireCosts(
        wire=wire.name,
        one_flow=_of_flows([by_load[load] for load in (STREAM, SHORT_PACKETS, SMALL)]),
        many_flows=_of_flows([by_load[load] for load in (MANY, SHORT_PACKETS, SMALL)]),
        frames=wire.frames,
        windows=[*windows, *([crowded] if crowded else [])],
    )
    return structs.replace(found, crowding=crowding_of(found, crowded)) if crowded else found


def crowding_of(costs: WireCosts, crowded: Window) -> Crowding:
    """Return what a second tunnel changes, by what the first costs alone and a window with both."""
    alone = costs.of("many flows", crowded.whole_share)
    frame = Frame(
        packets=crowded.packets / crowded.frames,
        bytes=crowded.bytes / crowded.frames,
        payload_bytes=0,
        wire_bytes=0,
    )
    ends = (*alone.sender.values(), *alone.receiver.values())
    cost = crowded.cpu_ns / crowded.frames / sum(stage.of(frame) for stage in ends)
    busy = crowded.busy_share(_n_cores()) / alone.busy_share
    return Crowding(cost=max(1.0, cost), busy=min(_CROWDED_BUSY_MAX, busy))


def _of_flows(windows: Sequence[Window]) -> FlowCosts:
    return FlowCosts(
        sender=_of_end(windows, [window.sender_ns for window in windows]),
        receiver=_of_end(windows, [window.receiver_ns for window in windows]),
        busy_share=windows[0].busy_share(_n_cores()),
        whole_share=windows[0].whole_share,
    )


def _n_cores() -> int:
    return len(os.sched_getaffinity(0))


def _of_end(
    windows: Sequence[Window], spent_ns: Sequence[Mapping[str, float]]
) -> dict[str, StageCost]:
    costs = {}
    for stage in spent_ns[0]:
        if stage in (SOURCE, SINK, ANSWERS):
            # Of small datagrams they are a program's of this measurement, and no part of a tunnel.
            stream, stage_ns = windows[0], spent_ns[0][stage]
            costs[stage] = StageCost(byte_ns=stage_ns / stream.bytes)
        else:
            samples = [
                Sample(
                    frames=window.frames,
                    packets=window.packets,
                    bytes=window.bytes,
                    cpu_ns=by_stage[stage],
                    weight=WEIGHT_OF_STREAM if window is windows[0] else 1.0,
                )
                for window, by_stage in zip(windows, spent_ns, strict=True)
            ]
            costs[stage] = fit(samples)
    return costs


def measure_crossing(hosts: Hosts, seconds: float, step: Step) -> float:
    """Return what a small packet costs that crosses from one lane to another, in ns.

    The sender has two lanes, and its peer one. Datagrams go in turn from a port whose queue is the
    peer's lane alone, and from that and one whose queue is not.
    """
    step("two lanes: starting")
    wire = next(each for each in WIRES if each.transport == "tcp" and each.has_lanes)
    with hosts.tunnel(wire, (_CROSSING_LANES, 1)) as tunnel:
        staying, crossing = _ports_by_lane(tunnel)
        watch = Watch(tunnel)
        step("two lanes: small datagrams, some of which cross")
        loads = (datagrams("staying", [staying]), datagrams("crossing", [staying, crossing]))
        taken = [
            [watch.take(load, seconds / _CROSSING_TURNS) for load in loads]
            for _ in range(_CROSSING_TURNS)
        ]
    return crossing_ns_of(*(summed(windows) for windows in zip(*taken, strict=True)))


def crossing_ns_of(stayed: Window, crossed: Window) -> float:
    """Return what a packet costs more that crosses: by windows with few such, and with many."""
    per_packet_ns = [each.sender_ns[SENDING[0]] / each.packets for each in (stayed, crossed)]
    shares = [each.crossed_packets / each.packets for each in (stayed, crossed)]
    more, more_ns = shares[1] - shares[0], per_packet_ns[1] - per_packet_ns[0]
    return max(0.0, more_ns / more) if more > 0 else 0.0


def summed(windows: Sequence[Window]) -> Window:
    """Return one window of all, which are of one load."""

    def total(of: Callable[[Window], float]) -> float:
        return sum(of(window) for window in windows)

    return Window(
        load=windows[0].load,
        seconds=total(lambda one: one.seconds),
        frames=int(total(lambda one: one.frames)),
        packets=int(total(lambda one: one.packets)),
        bytes=int(total(lambda one: one.bytes)),
        received_bytes=int(total(lambda one: one.received_bytes)),
        crossed_packets=int(total(lambda one: one.crossed_packets)),
        others_cores=total(lambda one: one.others_cores) / len(windows),
        whole_share=total(lambda one: one.whole_share * one.packets)
        / total(lambda one: one.packets),
        sender_ns=_summed([window.sender_ns for window in windows]),
        receiver_ns=_summed([window.receiver_ns for window in windows]),
    )


def _summed(spent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: sum(each[stage] for each in spent) for stage in spent[0]}


def _ports_by_lane(tunnel: Tunnel) -> tuple[int, int]:
    """Return a source port whose datagrams stay in their lane, and one whose cross."""
    found: dict[bool, int] = {}
    for port in _PORTS:
        found.setdefault(_crosses(tunnel, port), port)
        if len(found) > 1:
            return found[False], found[True]
    raise RuntimeFailure("all flows are in one queue of the device; run again")


def _crosses(tunnel: Tunnel, port: int) -> bool:
    n_taken, n_crossed = _taken(tunnel.client)
    with tunnel.client.host.socket(kind=socket.SOCK_DGRAM) as probe:
        probe.bind(("", port))
        probe.sendto(bytes(2), (tunnel.server.inner_address, PORT))
    wait_until(lambda: _taken(tunnel.client)[0] > n_taken, "a datagram in the tunnel")
    return _taken(tunnel.client)[1] > n_crossed


def _taken(gateway: GatewayProcess) -> tuple[int, int]:
    lanes = status_of(gateway).lanes
    n_taken = sum(lane.outbound.reader.packets for lane in lanes)
    n_crossed = sum(lane.crossed_packets for lane in lanes)
    return n_taken - n_crossed, n_crossed
