"""`fastun bench --model` on the real thing: its costs, its plain WireGuard peer, its two lanes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.model import results
from fastun.bench.model.costs import Hosts
from fastun.bench.model.grid import CORES
from fastun.bench.model.prediction import ANSWERS, KERNEL, SINK, SOURCE
from fastun.bench.model.windows import Watch, datagrams, streams
from fastun.bench.model.wires import WIRES
from fastun.bench.stages import RECEIVING, SENDING, status_of
from fastun.errors import RuntimeFailure
from fastun.lab.host import NAMESPACE_DIR
from fastun.lab.network import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCH = (sys.executable, "-m", "fastun", "bench", "--model")
CHECKED = (sys.executable, "-m", "bench.model")
NAMES = {wire.name: wire for wire in WIRES}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Lab() as lab:
        yield Hosts(lab, tmp_path)


@pytest.mark.alone
def test_the_costs_of_all_wires_are_measured_and_predict_for_all_machines() -> None:
    done = subprocess.run(
        [*BENCH, "--seconds", "0.2", "--nic", "25", "--lanes", "4", "--json"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [each["wire"] for each in figures["wires"]] == list(NAMES)
    for wire in figures["wires"]:
        for flows in (wire["one_flow"], wire["many_flows"]):
            assert set(flows["sender"]) == {SOURCE, *SENDING, ANSWERS}
            assert set(flows["receiver"]) == {KERNEL, *RECEIVING, SINK, ANSWERS}
            assert 0 < flows["busy_share"] <= 1
        assert 1 <= wire["crowding"]["cost"] < 10
        stream = wire["windows"][0]
        for role in (SENDING[0], RECEIVING[1]):
            spent = {**stream["sender_ns"], **stream["receiver_ns"]}
            assert 100 < spent[role] / stream["frames"] < 10e6
        assert stream["packets"] > 20 * stream["frames"]
    rows = figures["predictions"]
    assert {row["cores"] for row in rows} == set(CORES)
    assert {(row["lanes"], row["nic_gbit_per_second"]) for row in rows} == {(4, 25)}
    assert all(0 < row["bits_per_second"] < 25e9 for row in rows)
    assert "secure TCP: 1 TCP stream" in done.stderr.splitlines()


@pytest.mark.alone
def test_predictions_are_beside_what_was_measured(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CHECKED, "--rounds", "2", "--seconds", "0.2", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert re.search(r"^(All|\d+ of) 14 ratios are within 15 % of 1[.;]", done.stdout, re.MULTILINE)
    found = results.read(next(tmp_path.glob("model-*.json")))
    assert {each.wire for each in found.costs} == set(NAMES)
    rows = {(each.wire, each.lanes, each.streams) for each in found.compared}
    with_lanes = {name for name, wire in NAMES.items() if wire.has_lanes}
    assert rows == {(name, 1, n) for name in NAMES for n in (1, 8)} | {
        (name, 2, n) for name in with_lanes for n in (1, 8)
    }
    for each in found.compared:
        assert each.measured_bits_per_second > 1e6
        assert 0 < each.predicted_busy_cores <= each.cores * 1.001


def test_a_window_of_two_tunnels_has_what_both_carried(tmp_path: Path) -> None:
    wire = NAMES["secure TCP"]
    with Lab() as lab:
        pairs = [Hosts(lab, tmp_path, suffix) for suffix in ("1", "2")]
        with pairs[0].tunnel(wire) as first, pairs[1].tunnel(wire) as second:
            window = Watch(first, second).take(streams(2), 0.3)
            of_each = [
                status_of(tunnel.client).lanes[0].outbound.reader.packets
                for tunnel in (first, second)
            ]
    assert window.packets <= sum(of_each)
    assert min(of_each) > window.packets / 10


def test_an_interrupt_is_a_line_and_leaves_nothing() -> None:
    process = subprocess.Popen(
        [*BENCH, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "secure TCP: 1 TCP stream\n":
            break
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, "")
    assert complaint == "fastun: interrupted before any measurement was complete\n"
    left = NAMESPACE_DIR.iterdir() if NAMESPACE_DIR.is_dir() else ()
    assert not [path for path in left if path.name.startswith(f"ft-{process.pid}-")]


def test_its_plain_wireguard_peer_is_one(hosts: Hosts) -> None:
    with hosts.tunnel(NAMES["plain WireGuard"]) as tunnel:
        for gateway in (tunnel.client, tunnel.server):
            link = status_of(gateway).peers[0].link
            assert link is not None
            assert link.software == "WireGuard"
            assert not link.super_packets_outbound
        window = Watch(tunnel).take(streams(1), 0.2)
        assert window.packets > 20 * window.frames


def test_of_two_lanes_a_packet_that_crosses_is_counted_once(hosts: Hosts) -> None:
    with hosts.tunnel(NAMES["secure TCP"], (2, 1)) as tunnel:
        watch = Watch(tunnel)
        window = watch.take(datagrams("small", range(20001, 20017)), 0.3)
        assert 0.1 < window.crossed_packets / window.packets < 0.9
        received = window.received_bytes / 64
        assert received == pytest.approx(window.packets, rel=0.1, abs=2000)


def test_a_tunnel_that_carries_nothing_is_a_line(hosts: Hosts) -> None:
    with hosts.tunnel(NAMES["secure TCP"]) as tunnel:
        watch = Watch(tunnel)
        tunnel.client.host.ip("link", "set", "ft0", "down")
        with pytest.raises(RuntimeFailure, match=r"did not begin|nothing went through"):
            watch.take(datagrams("small", [0]), 0.2)
