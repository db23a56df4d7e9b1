"""The machines for which the model is asked, and what it takes for granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fastun.bench.model.figures import Predicted, WireCosts
from fastun.bench.model.prediction import DEMANDS, Demand, Machine, predict
from fastun.bench.model.wires import WIRES
from fastun.config.lanes import of_cores

if TYPE_CHECKING:
    from fastun.bench.model.wires import Wire

CORES = (1, 2, 4, 8, 16, 32, 64)

_ASSUMED = """
Each end is a machine of its own with cores as fast as these, and what sends and receives runs on it
as well: its time is in the sum of the cores. Small packets come from elsewhere.

Lanes share no memory that is written for each packet, so what one costs does not depend on how many
there are, as long as there is a core for each. Where more lanes share cores, each doubling costs as
much more as a second tunnel beside the first did here.

Caches of other machines, the memory's bandwidth and several sockets are not modelled: a byte is
moved some eight times at each end, so doubt what is above 40 Gbit/s.

A NIC has a queue for each core and chooses by connection. Its driver, and putting packets together
(GRO), cost nothing: a veth pair passes what is sent whole.

A core is a whole one, not one of its two hardware threads. What writers spend on looking for the
next packet before they sleep, on machines with more than two, is not counted.

How long softirqs take the kernel samples; on top of which stage they were is a guess. A stage that
finds the next one asleep does its step as well, as it does of most small packets here.

Stages that wait for each other leave cores idle at times; of any number of cores the part that they
keep busy is that of these, with one stream or with many.

A flow is in one lane. Many flows choose by chance, and 1,024 leave no lane empty. Many peers are in
lanes in turn, and the other ends of theirs are other machines.

What has no answer (the small packets) enters by any queue: of L lanes, L-1 in L cross, and the lane
that carries it is taken to pay for that.

Flows that lose packets on UDP have their super-packets split for a while. Of many flows as many do
so as did here, and one flow as seldom.

Nothing waits for a long path, and clocks do not slow down when all cores are
busy.
"""

ASSUMPTIONS = tuple(" ".join(one.split()) for one in _ASSUMED.split("\n\n"))


class View(msgspec.Struct, frozen=True):
    """Which machines are asked about: their NIC, and their lanes; None: as 'auto' chooses."""

    nic_gbit: float = 100.0
    lanes: int | None = None

    def machine(self, n_cores: int) -> Machine:
        """Return the one with so many cores."""
        lanes = of_cores(n_cores) if self.lanes is None else self.lanes
        return Machine(cores=n_cores, lanes=lanes, nic_bits_per_second=self.nic_gbit * 1e9)


def predicted(costs: Sequence[WireCosts], view: View) -> list[Predicted]:
    """Return the predictions of all wires for these machines, with any of CORES."""
    by_name = {each.wire: each for each in costs}
    return [
        one(wire, by_name[wire.name], view.machine(n_cores), demand, frame)
        for wire in WIRES
        if wire.name in by_name
        for frame in wire.frames
        for demand in DEMANDS
        for n_cores in CORES
    ]


def one(
    wire: Wire,
    costs: WireCosts,
    machine: Machine,
    demand: Demand,
    frame: str,
    *,
    whole_share: float | None = None,
) -> Predicted:
    """Return the prediction for one machine.

    With `whole_share`, where another part of the packets than was measured is in super-packets.
    """
    of_flows = costs.of(demand, whole_share)
    ends = wire.ends(
        of_flows.sender,
        of_flows.receiver,
        crossing_ns=costs.crossing_ns,
        busy_share=of_flows.busy_share,
        crowding=costs.crowding,
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
        busy_cores=found.busy_cores,
    )
