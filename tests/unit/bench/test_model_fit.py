"""What a frame, a packet and a byte cost is separated by loads that differ."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastun.bench.model.costs import WEIGHT_OF_STREAM
from fastun.bench.model.fit import Sample, fit
from fastun.bench.model.prediction import StageCost

# Frames, packets and bytes of a second: a stream, one of short packets, small datagrams.
LOADS = ((30_000, 1_350_000, 1.9e9), (25_000, 3_000_000, 1.6e9), (300_000, 300_000, 2.8e7))
cost = st.builds(
    StageCost,
    frame_ns=st.floats(1, 1e5),
    packet_ns=st.floats(1, 1e4),
    byte_ns=st.floats(0.001, 10),
)


def spent(on: StageCost, load: tuple[float, float, float]) -> float:
    return on.frame_ns * load[0] + on.packet_ns * load[1] + on.byte_ns * load[2]


WEIGHTS = (WEIGHT_OF_STREAM, 1.0, 1.0)


def samples(of: list[float]) -> list[Sample]:
    return [
        Sample(frames=load[0], packets=load[1], bytes=load[2], cpu_ns=ns, weight=weight)
        for load, ns, weight in zip(LOADS, of, WEIGHTS, strict=True)
    ]


@given(cost)
def test_costs_that_loads_were_made_of_are_found_again(true: StageCost) -> None:
    wanted = [spent(true, load) for load in LOADS]
    found = fit(samples(wanted))
    assert [spent(found, load) for load in LOADS] == pytest.approx(wanted, rel=1e-4)


@given(cost, st.lists(st.floats(0.5, 2), min_size=3, max_size=3))
@example(StageCost(frame_ns=1.0, packet_ns=1.0, byte_ns=1.0), [2.0, 0.5, 1.0])
def test_with_figures_that_do_not_agree_none_is_negative_and_the_stream_fits_best(
    true: StageCost, noise: list[float]
) -> None:
    wanted = [spent(true, load) * n for load, n in zip(LOADS, noise, strict=True)]
    found = fit(samples(wanted))
    assert min(found.frame_ns, found.packet_ns, found.byte_ns) >= 0
    errors = [abs(spent(found, load) / ns - 1) for load, ns in zip(LOADS, wanted, strict=True)]
    assert errors[0] <= 0.05
    nothing = sum(w**2 for w in WEIGHTS)
    assert sum((w * e) ** 2 for w, e in zip(WEIGHTS, errors, strict=True)) <= nothing


def test_a_stage_that_spent_nothing_costs_nothing() -> None:
    assert fit(samples([0.0, 0.0, 0.0])) == StageCost()
    assert fit([]) == StageCost()


def test_what_one_load_alone_shows_is_explained_somehow() -> None:
    found = fit(samples([1e9, 0.0, 0.0]))
    assert spent(found, LOADS[0]) == pytest.approx(1e9)
