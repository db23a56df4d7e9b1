"""The model: how much goes through, and what limits it. It only computes.

    sender    source -> tun-reader -> link-writer      (answers: link-reader -> tun-writer)
    receiver  kernel -> link-reader -> tun-writer -> sink   (tun-reader -> link-writer)

What a stage needs for a frame is known; so each of these limits the frames a second, and the least
of them is the prediction:

    the NIC          its bits a second : those of a frame on it
    the cores        of an end, as far as they are kept busy : what all its stages need together
    each stage       in as many processes as lanes have something to do : what it needs
    kernel           as a stage, in as many of the NIC's queues as lanes' connections meet
    source and sink  as a stage, a process a flow

A flow is in one lane, so flows that choose lanes by chance leave some empty: of L lanes F flows
fill L (1 - (1 - 1/L)^F) on average. What has no answers enters by any queue and crosses to its
lane, but for the one in L that is there already.

Where more lanes share a core than where costs were measured, a frame costs more, and the cores are
busy for more of the time: both by so much with each doubling (`Crowding`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

#: Of a NIC without any of this, so that the limits have names.
NIC, CORES = "NIC", "cores"
KERNEL, SOURCE, SINK, ANSWERS = "kernel", "source", "sink", "answers"
TUN_READER = "tun-reader"

#: What is asked of a tunnel: one flow, many of one peer, or many peers with flows of their own.
Demand = Literal["one flow", "many flows", "many peers"]
DEMANDS: tuple[Demand, ...] = ("one flow", "many flows", "many peers")
#: How many flows "many" are.
MANY_FLOWS = 1024
#: Of lanes that have something to do, counted at each end, how many a core had where costs were
#: measured: both ends' one lane on two cores.
LANE_ENDS_A_CORE = 1.0


class StageCost(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time in ns: for a frame, for each packet in it, and for each of their bytes."""

    frame_ns: float = 0.0
    packet_ns: float = 0.0
    byte_ns: float = 0.0

    def of(self, frame: Frame) -> float:
        """Return what a frame needs, in ns."""
        return self.frame_ns + self.packet_ns * frame.packets + self.byte_ns * frame.bytes


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What the device gives at once. ``bytes`` are those of its packets, ``wire_bytes`` the NIC's.

    Of what is not answered each flow's packets go one way only.
    """

    packets: float
    bytes: float
    payload_bytes: float
    wire_bytes: float
    is_answered: bool = True


class Crowding(msgspec.Struct, frozen=True, kw_only=True):
    """What is different where twice as many lanes share a core: times as much, both.

    ``cost`` is what all stages spend on a frame, at least 1; ``busy`` the part of the cores that
    they keep busy, at most 2.
    """

    cost: float = 1.0
    busy: float = 1.0


#: As many lanes share a core as where costs were measured.
NOT_CROWDED = Crowding()


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """What the stages of both ends cost, and in how many lanes one peer may be.

    ``crossing_ns`` is for a frame that crosses. Where peers cannot be in different lanes there is
    one, and ``has_lanes`` is false. ``busy_share``: of the cores, which stages keep busy that wait
    for each other at times.
    """

    sender: Mapping[str, StageCost]
    receiver: Mapping[str, StageCost]
    crossing_ns: float = 0.0
    busy_share: float = 1.0
    crowding: Crowding = NOT_CROWDED
    lanes_sending_max: int = 1
    lanes_receiving_max: int = 1
    has_lanes: bool = True


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What carries it: each end has one, or with ``is_shared`` both ends have this one.

    Something else keeps ``others_cores`` of its cores busy.
    """

    cores: float
    others_cores: float = 0.0
    lanes: int
    nic_bits_per_second: float
    is_shared: bool = False


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """How much goes through, and the name of what limits it.

    ``of_linear`` is its part of what cores and NIC would allow if no stage had to wait for a
    process of its own; ``busy_cores`` are those of the machine, of the busier end's where each has
    one.
    """

    frames_per_second: float
    bits_per_second: float
    limit: str
    of_linear: float
    busy_cores: float


def predict(ends: Ends, frame: Frame, machine: Machine, demand: Demand) -> Prediction:
    """Return what goes through. ValueError where a number is out of range."""
    _check(machine)
    sides = [_Side(ends, "sender"), _Side(ends, "receiver")]
    limits = {NIC: machine.nic_bits_per_second / (8 * frame.wire_bytes)}
    doublings = _doublings([side.n_lanes(machine, demand) for side in sides], machine)
    cost = ends.crowding.cost**doublings
    busy_share = min(1.0, ends.busy_share * ends.crowding.busy**doublings)
    of_ends = [cost * side.needed_ns(frame, machine) for side in sides]
    needed_ns = sum(of_ends) if machine.is_shared else max(of_ends)
    _lower(limits, CORES, (machine.cores - machine.others_cores) * busy_share, needed_ns)
    linear = min(limits.values())
    for side in sides:
        for stage, (n_processes, of_stage_ns) in side.stages(frame, machine, demand).items():
            _lower(limits, stage, n_processes, cost * of_stage_ns)
    limit = min(limits, key=lambda name: limits[name])
    frames = limits[limit]
    return Prediction(
        frames_per_second=frames,
        bits_per_second=8 * frame.payload_bytes * frames,
        limit=limit,
        of_linear=frames / linear,
        busy_cores=frames * needed_ns / 1e9,
    )


def occupied(n_places: float, n_users: float) -> float:
    """Return how many of these places are used on average when each user takes one by chance."""
    empty: float = (1 - 1 / n_places) ** n_users
    return n_places * (1 - empty)


def _doublings(n_lanes: Sequence[float], machine: Machine) -> float:
    """Return how often more lanes share a core than where costs were measured, as a power of 2."""
    n_here = sum(n_lanes) if machine.is_shared else max(n_lanes)
    return max(0.0, math.log2(n_here / machine.cores / LANE_ENDS_A_CORE))


def _check(machine: Machine) -> None:
    n_cores = machine.cores - machine.others_cores
    if n_cores <= 0 or machine.lanes < 1:
        raise ValueError(f"{n_cores:g} cores and {machine.lanes} lanes carry nothing")
    if machine.nic_bits_per_second <= 0:
        raise ValueError(f"a NIC of {machine.nic_bits_per_second:g} bit/s carries nothing")


def _lower(limits: dict[str, float], name: str, n: float, needed_ns: float) -> None:
    """Note how many frames a second `n` cores or processes can, if that is less than was noted."""
    if needed_ns > 0:
        limits[name] = min(limits.get(name, float("inf")), n * 1e9 / needed_ns)


class _Side:
    """One end of the tunnel."""

    def __init__(self, ends: Ends, end: Literal["sender", "receiver"]) -> None:
        self._ends = ends
        self._costs = ends.sender if end == "sender" else ends.receiver
        self._lanes_max = ends.lanes_sending_max if end == "sender" else ends.lanes_receiving_max

    def stages(
        self, frame: Frame, machine: Machine, demand: Demand
    ) -> dict[str, tuple[float, float]]:
        """Return for each stage in how many processes it is, and what it needs for a frame.

        Answers are carried by the workers of the other direction, which always have less to do.
        """
        n_lanes = self.n_lanes(machine, demand)
        n_processes = {
            KERNEL: occupied(max(1.0, machine.cores), n_lanes),
            SOURCE: 1 if demand == "one flow" else MANY_FLOWS,
            SINK: 1 if demand == "one flow" else MANY_FLOWS,
        }
        return {
            name: (n_processes.get(name, n_lanes), needed_ns)
            for name, needed_ns in self._needed(frame, machine).items()
            if name != ANSWERS
        }

    def needed_ns(self, frame: Frame, machine: Machine) -> float:
        """Return what all stages of this end need for a frame."""
        return sum(self._needed(frame, machine).values())

    def _needed(self, frame: Frame, machine: Machine) -> dict[str, float]:
        needed = {name: cost.of(frame) for name, cost in self._costs.items()}
        if self._costs is self._ends.sender and not frame.is_answered:
            n_lanes = self._lanes_of(machine)
            crossing_ns = self._ends.crossing_ns * (n_lanes - 1) / n_lanes
            needed[TUN_READER] = needed.get(TUN_READER, 0.0) + crossing_ns
        return needed

    def _lanes_of(self, machine: Machine) -> int:
        return machine.lanes if self._ends.has_lanes else 1

    def n_lanes(self, machine: Machine, demand: Demand) -> float:
        """Return how many lanes have something to do, on average."""
        n_lanes = self._lanes_of(machine)
        if demand == "many peers":  # They are in the lanes of their slots, in turn.
            return n_lanes
        of_peer = min(n_lanes, self._lanes_max)
        return occupied(of_peer, 1 if demand == "one flow" else MANY_FLOWS)
