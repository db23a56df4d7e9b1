"""The model of this machine: its costs measured, and what follows for others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from fastun import __version__
from fastun.bench.model import costs, grid, processors
from fastun.bench.model.figures import Model

if TYPE_CHECKING:
    from fastun.lab.network import Lab

N_STEPS = costs.N_STEPS


def measured_model(
    lab: Lab, directory: Path, seconds: float, view: grid.View, step: Callable[[str], None]
) -> Model:
    """Measure each load for so long, and predict for the machines of `view`. FastunError."""
    step("two hosts and a veth pair")
    with processors.few() as chosen:
        hosts, others = (costs.Hosts(lab, directory, suffix) for suffix in ("", "2"))
        measured = costs.measure(hosts, others, seconds, step)
        crossing_ns = costs.measure_crossing(hosts, seconds, step)
    wires = [structs.replace(each, crossing_ns=crossing_ns) for each in measured]
    return Model(
        version=__version__,
        kernel=os.uname().release,
        cores=len(chosen),
        congestion_control=lab.congestion_control,
        seconds=seconds,
        nic_gbit_per_second=view.nic_gbit,
        lanes=view.lanes,
        wires=wires,
        assumptions=list(grid.ASSUMPTIONS),
        predictions=grid.predicted(wires, view),
    )
