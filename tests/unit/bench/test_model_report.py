"""What `fastun bench --model` prints, and the options that it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from fastun.bench.model import grid
from fastun.bench.model.costs import LOADS, costs_of, crossing_ns_of, crowding_of, summed
from fastun.bench.model.figures import Model, Window, WireCosts
from fastun.bench.model.grid import View
from fastun.bench.model.prediction import ANSWERS, DEMANDS, KERNEL, NOT_CROWDED, SINK, SOURCE
from fastun.bench.model.report import of_model
from fastun.bench.model.wires import SMALL_PACKET, SUPER_PACKET, WIRES
from fastun.bench.stages import RECEIVING, SENDING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastun.bench.model.prediction import Demand

COUNTS = (
    (30_000, 1_350_000, 1.9e9),
    (24_000, 1_080_000, 1.52e9),
    (25_000, 3_000_000, 1.6e9),
    (300_000, 300_000, 2.8e7),
)


def window(number: int, ns_a_frame: float = 10_000.0, **more: float) -> Window:
    frames, packets, n_bytes = COUNTS[number]
    spent = ns_a_frame * frames

    def of(*stages: str) -> Mapping[str, float]:
        return dict.fromkeys(stages, spent)

    found = Window(
        load=LOADS[number].name,
        seconds=1.0,
        frames=frames,
        packets=packets,
        bytes=int(n_bytes),
        received_bytes=int(n_bytes),
        crossed_packets=0,
        others_cores=0.0,
        whole_share=1.0,
        sender_ns=dict(of(SOURCE, *SENDING, ANSWERS)),
        receiver_ns=dict(of(KERNEL, *RECEIVING, SINK, ANSWERS)),
    )
    return msgspec.structs.replace(found, **more)


CROWDED = window(1, 12_000.0)
COSTS = [
    costs_of(wire, [window(n) for n in range(len(LOADS))], CROWDED if wire.has_lanes else None)
    for wire in WIRES
]


def model_of(view: View, costs: list[WireCosts]) -> Model:
    return msgspec.structs.replace(
        MODEL,
        nic_gbit_per_second=view.nic_gbit,
        lanes=view.lanes,
        wires=costs,
        predictions=grid.predicted(costs, view),
    )


MODEL = Model(
    version="0.1.0",
    kernel="6.18.44-some-long-name-of-a-build",
    cores=128,
    congestion_control="cubic",
    seconds=2.0,
    nic_gbit_per_second=100.0,
    lanes=None,
    wires=COSTS,
    assumptions=list(grid.ASSUMPTIONS),
    predictions=grid.predicted(COSTS, View()),
)


def printed(view: View, costs: list[WireCosts] = COSTS) -> list[str]:
    file = io.StringIO()
    shown = of_model(model_of(view, costs))
    Console(file=file, width=80, highlight=False).print(*shown, sep="\n")
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("view", [View(), View(0.5, 1), View(1000, 16)])
def test_the_tables_fit_80_columns_with_nothing_cut_or_broken(view: View) -> None:
    lines = printed(view)
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    of_nic = f"a NIC of {view.nic_gbit:g} Gbit/s"
    assert any(of_nic in line for line in lines)


def test_every_wire_has_its_costs_and_the_limit_of_each_prediction() -> None:
    lines = printed(View())
    for wire in WIRES:
        assert sum(line.startswith(wire.name) for line in lines) == 4
    many = next(i for i, line in enumerate(lines) if line.startswith("  many flows, many"))
    assert len(lines[many].split()) == 4 + len(grid.CORES)
    assert lines[many + 1].split()[0] == "cores"


def test_costs_of_a_stream_come_back_as_they_were_measured() -> None:
    """A frame of the stream is 63,333 bytes, and took each stage 10 µs."""
    one = COSTS[0]
    frames, packets, n_bytes = COUNTS[0]
    for end in (one.one_flow.sender, one.one_flow.receiver):
        for cost in end.values():
            ns = cost.frame_ns + (cost.packet_ns * packets + cost.byte_ns * n_bytes) / frames
            assert ns == pytest.approx(10_000, rel=0.02)


def test_all_machines_are_predicted_once() -> None:
    rows = MODEL.predictions
    assert {row.wire for row in rows} == {wire.name for wire in WIRES}
    assert {row.frame for row in rows} == {SUPER_PACKET, SMALL_PACKET}
    assert {row.demand for row in rows} == set(DEMANDS)
    assert {row.cores for row in rows} == set(grid.CORES)
    keys = [(r.wire, r.frame, r.demand, r.cores, r.lanes, r.nic_gbit_per_second) for r in rows]
    assert len(set(keys)) == len(keys)
    encoded = json.dumps(msgspec.to_builtins(MODEL))
    assert msgspec.json.decode(encoded, type=Model) == MODEL


def test_it_says_when_others_used_the_machine() -> None:
    assert not [line for line in printed(View()) if line.startswith("Others")]
    busy = [
        msgspec.structs.replace(
            costs,
            windows=[msgspec.structs.replace(w, others_cores=40.0) for w in costs.windows],
        )
        for costs in COSTS
    ]
    lines = printed(View(), busy)
    assert [line for line in lines if line.startswith("Others kept 40.0 cores busy meanwhile")]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_a_nic_carries_more_than_the_payload_and_not_much_more(wire: object) -> None:
    frame = wire.frames[SUPER_PACKET]  # type: ignore[attr-defined]
    assert 0.88 < frame.payload_bytes / frame.wire_bytes < 0.96


def test_crossing_is_what_a_packet_costs_more_by_how_many_cross() -> None:
    stayed = window(3, 1000.0)
    crossed = window(3, 2000.0, crossed_packets=150_000)
    assert crossing_ns_of(stayed, crossed) == pytest.approx(2000)
    assert crossing_ns_of(stayed, window(3, 2000.0)) == 0
    assert crossing_ns_of(crossed, crossed) == 0
    assert crossing_ns_of(window(3, 3000.0), crossed) == 0


def test_crowding_is_what_a_frame_costs_more_beside_a_second_tunnel() -> None:
    """Nine stages of 0.24 s are busy for all of two cores at most, alone or not."""
    alone = costs_of(WIRES[0], [window(n) for n in range(len(LOADS))], None)
    found = crowding_of(alone, window(1, 12_000.0))
    assert found.cost == pytest.approx(1.2, rel=0.02)
    assert crowding_of(alone, window(1, 8_000.0)).cost == 1
    idle = window(1, 12_000.0, seconds=100.0)
    assert crowding_of(alone, idle).busy < 1
    slow = [window(n, seconds=1000.0) for n in range(len(LOADS))]
    assert crowding_of(costs_of(WIRES[0], slow, None), window(1)).busy == 2


def test_many_flows_have_their_own_costs_and_the_other_loads_in_common() -> None:
    slower = [window(n, 15_000.0 if n == 1 else 10_000.0) for n in range(len(LOADS))]
    found = costs_of(WIRES[0], slower, None)
    of = found.frames[SUPER_PACKET]
    one, many = (found.of(d).receiver[SINK].of(of) for d in ("one flow", "many peers"))
    assert many / one == pytest.approx(1.5)
    assert found.of("many flows") == found.many_flows
    assert found.crowding == NOT_CROWDED


def test_flows_that_lost_packets_cost_as_the_many_do_that_lose_them() -> None:
    """Here one flow has 0.9 of its packets in super-packets, and many have 0.1."""
    shares = (0.9, 0.1, 1.0, 0.0)
    windows = [
        window(n, 15_000.0 if n == 1 else 10_000.0, whole_share=shares[n])
        for n in range(len(LOADS))
    ]
    costs = costs_of(WIRES[0], windows, None)

    def ns(demand: Demand, whole_share: float | None) -> float:
        return costs.of(demand, whole_share).receiver[SINK].byte_ns

    one, many = (ns(demand, None) for demand in ("one flow", "many flows"))
    assert many == pytest.approx(1.5 * one)
    for demand in DEMANDS:
        assert ns(demand, 0.9) == ns(demand, 1.0) == pytest.approx(one)
        assert ns(demand, 0.1) == ns(demand, 0.0) == pytest.approx(many)
        assert ns(demand, 0.5) == pytest.approx((one + many) / 2)
    alike = costs_of(WIRES[0], [window(n, whole_share=0.9) for n in range(len(LOADS))], None)
    assert alike.of("many flows", 0.1) == alike.many_flows


def test_windows_of_several_rounds_add_up() -> None:
    both = summed([window(0), window(0, 20_000.0, others_cores=1.0)])
    assert (both.frames, both.seconds, both.others_cores) == (60_000, 2.0, 0.5)
    assert both.sender_ns[SOURCE] == pytest.approx(30_000 * 30_000)
    assert both.bits_per_second == pytest.approx(8 * 1.9e9)


def test_busy_is_what_is_left_by_others() -> None:
    one = window(0)  # Nine stages of 0.3 s.
    assert one.busy_share(4) == pytest.approx(2.7 / 4)
    assert msgspec.structs.replace(one, others_cores=1.0).busy_share(4) == pytest.approx(0.9)
    assert one.busy_share(2) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nic", "10"], "--nic and --lanes need --model"),
        (["--lanes", "2"], "--nic and --lanes need --model"),
        (["--model", "--serve"], "--model measures this machine only; remove --peer or --serve"),
        (["--model", "--peer", "x"], "--model measures this machine only"),
        (["--model", "--lanes", "17"], "--lanes: 17 is out of range (1-16)"),
        (["--model", "--lanes", "0"], "--lanes: 0 is out of range (1-16)"),
        (["--model", "--nic", "0"], "0"),
        (["--model", "--nic", "nan"], "nan"),
        (["--model", "--reverse"], "--reverse needs --peer"),
        (["--model", "-i", "ft0"], "--interface needs --peer or --serve"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_code_2(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "fastun", "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr
