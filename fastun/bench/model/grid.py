"""The machines for which the model is asked, and what it takes for granted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastun.bench.model.figures import Predicted, WireCosts
from fastun.bench.model.prediction import DEMANDS, Demand, Machine, predict
from fastun.bench.model.wires import WIRES
from fastun.config.lanes import of_cores

if TYPE_CHECKING:
    from fastun.bench.model.wires import Wire

CORES = (1, 2, 4, 8, 16, 32, 64)
LANES = (1, 2, 4, 8, 16)
NICS_GBIT = (1.0, 10.0, 25.0, 100.0)

_ASSUMED = """
Each end is a machine of its own with cores as fast as these, and what sends and receives runs on it
as well: its time is in the sum of the cores. Small packets come from elsewhere.

Lanes share no memory that is written for each packet, so what one costs does not depend on how many
there are. Caches, the memory's bandwidth and several sockets are not modelled: a byte is moved some
eight times at each end, so doubt what is above 40 Gbit/s.

A NIC has a queue for each core and chooses by connection. Its driver, and putting packets together
(GRO), cost nothing: a veth pair passes what is sent whole.

A core is a whole one, not one of its two hardware threads. What writers spend on looking for the
next packet before they sleep, on machines with more than two, is not counted.

How long softirqs take the kernel samples; on top of which stage they were is a guess. A stage that
finds the next one asleep does its step as well, as it does of most small packets here.

Stages that wait for each other leave cores idle at times; of any number of cores the part that they
keep busy is that of these, with one stream.

A flow is in one lane. Many flows choose by chance, and 1,024 leave no lane empty. Many peers are in
lanes in turn, and the other ends of theirs are other machines.

What has no answer (the small packets) enters by any queue: of L lanes, L-1 in L cross, and the lane
that carries it is taken to pay for that.

Nothing is lost, nothing waits for a long path, and clocks do not slow down when all cores are
busy.
"""

ASSUMPTIONS = tuple(" ".join(one.split()) for one in _ASSUMED.split("\n\n"))


def predicted(costs: Sequence[WireCosts]) -> list[Predicted]:
    """Return the predictions of all wires for all of these machines."""
    by_name = {each.wire: each for each in costs}
    return [
        row for wire in WIRES if wire.name in by_name for row in _of_wire(wire, by_name[wire.name])
    ]


def one(
    wire: Wire,
    costs: WireCosts,
    machine: Machine,
    demand: Demand,
    frame: str,
) -> Predicted:
    """Return the prediction for one machine."""
    ends = wire.ends(
        costs.sender,
        costs.receiver,
        crossing_ns=costs.crossing_ns,
        busy_share=costs.busy_share,
    )
    found = predict(ends, costs.frames[frame], machine, demand)
    return Predicted(
        wire=wire.name,
        frame=frame,
        demand=demand,
        cores=machine.cores,
        lanes=machine.lanes,
        nic_gbit_per_second=machine.nic_bits_per_second / 1e9,
        frames_per_second=found.frames_per_second,
        bits_per_second=found.bits_per_second,
        limit=found.limit,
        of_linear=found.of_linear,
    )


def _of_wire(wire: Wire, costs: WireCosts) -> Iterator[Predicted]:
    for frame in costs.frames:
        for demand in DEMANDS:
            for n_cores in CORES:
                for n_lanes in sorted({*LANES, of_cores(n_cores)}):
                    for nic in NICS_GBIT:
                        machine = Machine(
                            cores=n_cores, lanes=n_lanes, nic_bits_per_second=nic * 1e9
                        )
                        yield one(wire, costs, machine, demand, frame)
