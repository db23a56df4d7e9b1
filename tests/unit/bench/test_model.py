"""The model of `fastun bench --model`: what it must be whatever the stages cost."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from fastun.bench.model.prediction import (
    ANSWERS,
    CORES,
    DEMANDS,
    KERNEL,
    NIC,
    SINK,
    SOURCE,
    Crowding,
    Ends,
    Frame,
    Machine,
    StageCost,
    occupied,
    predict,
)
from fastun.bench.stages import RECEIVING, SENDING
from fastun.native import LANES_MAX

SENDER = (SOURCE, *SENDING, ANSWERS)
RECEIVER = (KERNEL, *RECEIVING, SINK, ANSWERS)
WORKERS = (*SENDING, *RECEIVING)
NO_NIC = 1e15

ns = st.floats(0, 1e5)
costs = st.builds(StageCost, frame_ns=ns, packet_ns=st.floats(0, 1e4), byte_ns=st.floats(0, 10))
frames = st.builds(
    Frame,
    packets=st.floats(1, 128),
    bytes=st.floats(20, 65535),
    payload_bytes=st.floats(1, 65535),
    wire_bytes=st.floats(64, 80000),
    is_answered=st.booleans(),
)
ends = st.builds(
    Ends,
    sender=st.fixed_dictionaries(dict.fromkeys(SENDER, costs)),
    receiver=st.fixed_dictionaries(dict.fromkeys(RECEIVER, costs)),
    crossing_ns=ns,
    busy_share=st.floats(0.01, 1),
    crowding=st.builds(Crowding, cost=st.floats(1, 3), busy=st.floats(0.5, 2)),
    lanes_sending_max=st.sampled_from([1, LANES_MAX]),
    lanes_receiving_max=st.sampled_from([1, LANES_MAX]),
    has_lanes=st.booleans(),
)
machines = st.builds(
    Machine,
    cores=st.one_of(st.integers(1, 64), st.floats(0.1, 64)),
    lanes=st.integers(1, LANES_MAX),
    nic_bits_per_second=st.floats(1e6, 1e12),
    is_shared=st.booleans(),
)
demands = st.sampled_from(DEMANDS)


@given(ends, frames, machines, demands)
def test_no_more_than_the_nic_and_all_cores_and_the_limit_has_a_name(
    e: Ends, frame: Frame, machine: Machine, demand: str
) -> None:
    found = predict(e, frame, machine, demand)  # type: ignore[arg-type]
    on_nic = found.frames_per_second * frame.wire_bytes * 8
    assert 0 < on_nic <= machine.nic_bits_per_second * (1 + 1e-9)
    assert found.bits_per_second == pytest.approx(8 * frame.payload_bytes * found.frames_per_second)
    for side in (e.sender, e.receiver):
        busy = found.frames_per_second * sum(cost.of(frame) for cost in side.values()) / 1e9
        assert busy <= found.busy_cores * (1 + 1e-9)
    assert found.busy_cores <= machine.cores * (1 + 1e-9)
    assert found.limit in {NIC, CORES, KERNEL, SOURCE, SINK, *WORKERS}
    assert 0 < found.of_linear <= 1 + 1e-9
    assert (found.limit in {NIC, CORES}) <= (found.of_linear == pytest.approx(1))


@given(ends, frames, machines, demands, st.floats(1, 64))
def test_more_cores_and_a_faster_nic_never_carry_less(
    e: Ends, frame: Frame, machine: Machine, demand: str, factor: float
) -> None:
    before = predict(e, frame, machine, demand).frames_per_second  # type: ignore[arg-type]
    for better in (
        structs.replace(machine, cores=machine.cores * factor),
        structs.replace(machine, nic_bits_per_second=machine.nic_bits_per_second * factor),
    ):
        after = predict(e, frame, better, demand).frames_per_second  # type: ignore[arg-type]
        assert after >= before * (1 - 1e-9)


@given(ends, frames, machines)
def test_more_lanes_carry_less_only_because_they_share_cores(
    e: Ends, frame: Frame, machine: Machine
) -> None:
    answered = structs.replace(frame, is_answered=True)
    alone = structs.replace(e, crowding=Crowding())
    for demand in DEMANDS:
        by_lanes = [
            predict(alone, answered, structs.replace(machine, lanes=n), demand).frames_per_second
            for n in (1, 2, 4, 8, 16)
        ]
        assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(by_lanes))


@given(ends, frames, machines, demands)
def test_what_others_use_is_missing_and_changes_nothing_else(
    e: Ends, frame: Frame, machine: Machine, demand: str
) -> None:
    half = structs.replace(machine, others_cores=machine.cores / 2)
    found, before = (predict(e, frame, m, demand) for m in (half, machine))  # type: ignore[arg-type]
    assert found.busy_cores <= machine.cores / 2 * (1 + 1e-9)
    assert found.limit in {before.limit, CORES}
    assert before.frames_per_second / 2 <= found.frames_per_second * (1 + 1e-9)


@given(ends, frames, machines, demands)
def test_as_many_lanes_as_cores_do_not_share_any(
    e: Ends, frame: Frame, machine: Machine, demand: str
) -> None:
    n_lanes = machine.lanes * 2 if machine.is_shared else machine.lanes
    enough = structs.replace(machine, cores=n_lanes)
    alone = structs.replace(e, crowding=Crowding())
    found = predict(e, frame, enough, demand)  # type: ignore[arg-type]
    assert found == predict(alone, frame, enough, demand)  # type: ignore[arg-type]


def test_each_doubling_of_the_lanes_on_the_same_cores_costs_as_much_more() -> None:
    e = structs.replace(EVEN, busy_share=0.8, crowding=Crowding(cost=1.25, busy=1.1))
    shared = [
        predict(
            e,
            FRAME,
            Machine(cores=2, lanes=n, nic_bits_per_second=NO_NIC, is_shared=True),
            "many flows",
        )
        for n in (1, 2, 4, 16)
    ]
    rates = [each.frames_per_second for each in shared]
    assert rates[1] / rates[0] == pytest.approx(1.1 / 1.25)
    assert rates[2] / rates[1] == pytest.approx(1.1 / 1.25)
    assert [each.busy_cores for each in shared] == pytest.approx([1.6, 1.76, 1.936, 2.0])


@given(ends, frames, st.sampled_from(WORKERS))
def test_one_lane_with_cores_enough_is_as_fast_as_its_slowest_stage(
    e: Ends, frame: Frame, slowest: str
) -> None:
    cost = StageCost(frame_ns=1e7)
    end = "sender" if slowest in SENDING else "receiver"
    one_slow = structs.replace(e, **{end: {**getattr(e, end), slowest: cost}})
    machine = Machine(cores=1e6, lanes=1, nic_bits_per_second=NO_NIC)
    others = [c.of(frame) for side in (e.sender, e.receiver) for c in side.values()]
    assume(max(others) < 9e6)
    found = predict(one_slow, frame, machine, "one flow")
    assert found.limit == slowest
    assert found.frames_per_second == pytest.approx(100)


@given(ends, frames, demands)
def test_what_costs_nothing_is_limited_by_the_nic(e: Ends, frame: Frame, demand: str) -> None:
    free = structs.replace(e, sender={}, receiver={KERNEL: StageCost()}, crossing_ns=0.0)
    machine = Machine(cores=1, lanes=1, nic_bits_per_second=1e9)
    assert predict(free, frame, machine, demand).limit == NIC  # type: ignore[arg-type]


FRAME = Frame(packets=45, bytes=65588, payload_bytes=65536, wire_bytes=70000)
EVEN = Ends(
    sender=dict.fromkeys(SENDER, StageCost(frame_ns=10_000)),
    receiver=dict.fromkeys(RECEIVER, StageCost(frame_ns=10_000)),
    lanes_sending_max=LANES_MAX,
    lanes_receiving_max=LANES_MAX,
)


def machine_of(cores: int, lanes: int) -> Machine:
    return Machine(cores=cores, lanes=lanes, nic_bits_per_second=NO_NIC)


def test_many_flows_are_linear_in_cores_and_one_flow_is_in_one_lane() -> None:
    many = [predict(EVEN, FRAME, machine_of(n, n // 2), "many flows") for n in (4, 8, 16, 32)]
    rates = [each.frames_per_second for each in many]
    assert rates == pytest.approx([rates[0] * n for n in (1, 2, 4, 8)])
    assert {each.limit for each in many} == {CORES}
    one = predict(EVEN, FRAME, machine_of(32, 16), "one flow")
    assert (one.frames_per_second, one.limit) == (pytest.approx(1e5), SOURCE)


def test_a_peer_that_receives_in_one_lane_does_not_get_more_of_it_but_many_peers_do() -> None:
    plain = structs.replace(EVEN, lanes_receiving_max=1)
    of_one = predict(plain, FRAME, machine_of(32, 16), "many flows")
    assert (of_one.frames_per_second, of_one.limit) == (pytest.approx(1e5), KERNEL)
    of_many = predict(plain, FRAME, machine_of(32, 16), "many peers")
    assert of_many.limit == CORES


def test_both_ends_on_one_machine_share_its_cores() -> None:
    apart = machine_of(2, 1)
    shared = structs.replace(apart, is_shared=True)
    of_apart, of_shared = (predict(EVEN, FRAME, m, "one flow") for m in (apart, shared))
    assert of_apart.frames_per_second == pytest.approx(2e9 / 50_000)
    assert of_shared.frames_per_second == pytest.approx(2e9 / 90_000)


def test_what_has_no_answer_pays_for_its_crossing_by_the_number_of_lanes() -> None:
    lonely = structs.replace(FRAME, is_answered=False)
    e = structs.replace(EVEN, crossing_ns=40_000.0)
    one, four = (predict(e, lonely, machine_of(64, n), "one flow") for n in (1, 4))
    assert one.frames_per_second == pytest.approx(1e5)
    assert (four.frames_per_second, four.limit) == (pytest.approx(1e9 / 40_000), SENDING[0])


@given(st.floats(1, 64), st.integers(1, 2000))
def test_no_more_places_are_used_than_there_are_places_or_users(places: float, users: int) -> None:
    used = occupied(places, users)
    assert 1 - 1e-9 <= used <= min(places, users) * (1 + 1e-9)
    assert occupied(places, 1) == pytest.approx(1)
    assert math.isclose(occupied(places, 100_000), places)


@pytest.mark.parametrize(
    ("machine", "complaint"),
    [
        (Machine(cores=0, lanes=1, nic_bits_per_second=1e9), "0 cores and 1 lanes"),
        (Machine(cores=4, lanes=0, nic_bits_per_second=1e9), "4 cores and 0 lanes"),
        (Machine(cores=4, lanes=1, nic_bits_per_second=0), "a NIC of 0 bit/s"),
    ],
)
def test_a_machine_without_something_is_refused(machine: Machine, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        predict(EVEN, FRAME, machine, "one flow")
