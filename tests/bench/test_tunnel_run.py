"""A run of the benchmark: figures of real tunnels, and one case's failure left to that case.

client-NAME ===veth=== server-NAME, and client-NAME --- router-NAME --- server-NAME, a case
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bench.tunnel import outage
from bench.tunnel import results as result_files
from bench.tunnel.addresses import INNER, OUTER
from bench.tunnel.cases import BASELINE, PEER, Case
from bench.tunnel.figures import FIGURES
from bench.tunnel.measures import MEASURES, Measure, Subject, one_stream
from bench.tunnel.pair import Pair, make_pair
from bench.tunnel.programs import fastun
from bench.tunnel.results import ABSENT, FAILED, OK, CaseResult, Settings
from bench.tunnel.rounds import Run
from fastun.lab.host import NAMESPACE_DIR, wait_until
from fastun.lab.network import missing_capability
from fastun.lab.traffic import answers_ping, iperf3, ping

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fastun.lab.network import Lab

SETTINGS = Settings(is_quick=True, n_rounds=2, seconds=1, n_trials=2, socket_buffer_bytes=0)


def nothing(_pair: Pair) -> None:
    """A case without programs."""


def wire_case(name: str, kind: str = BASELINE) -> Case:
    return Case(name, name, kind, nothing, addresses=OUTER)


def count(_subject: Subject) -> dict[str, float]:
    """A measure that always works, and takes no time."""
    return {"count": 1.0}


def run(
    lab: Lab, directory: Path, cases: Iterable[Case], *measures: Measure
) -> dict[str, CaseResult]:
    one = Run(lab, directory, SETTINGS, lambda _: None)
    one.bring_up(list(cases))
    one.measure(measures)
    return {result.name: result for result in one.cases}


def start_bench(*arguments: str) -> subprocess.Popen[str]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    command = [sys.executable, "-m", "bench.tunnel", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def namespaces_of(process: subprocess.Popen[str]) -> list[str]:
    return [path.name for path in NAMESPACE_DIR.glob(f"ft-{process.pid}-*")]


def test_a_run_prints_a_table_stores_its_figures_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # fmt: off
    process = start_bench(
        "--cases", "veth,fastun-tcp", "--measures", "one-stream,idle-ping,packets-64,memory",
        "--rounds", "1", "--seconds", "1", "--quick", "--output", str(tmp_path),
    )
    # fmt: on
    stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 0, stderr
    assert "fastun, secure TCP" in stdout
    (file,) = tmp_path.glob("*.json")
    for suffix in (".md", ".png", ".svg"):
        assert file.with_suffix(suffix).stat().st_size > 0
    veth, tunnel = result_files.read(file).cases
    assert (veth.status, tunnel.status) == (OK, OK)
    assert 0 < tunnel.values["goodput-1-out"][0] < veth.values["goodput-1-out"][0]
    assert 0 < veth.values["ping-idle-p50"][0] < tunnel.values["ping-idle-p50"][0]
    assert tunnel.values["cpu-programs"][0] > 0
    assert tunnel.values["start-up"][0] > 0
    assert tunnel.values["memory-rss"][0] > tunnel.values["memory-pss"][0] > 1
    assert tunnel.values.keys() < {figure.name for figure in FIGURES}
    assert namespaces_of(process) == []


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start_bench("--quick", "--cases", "veth,fastun-tcp", "--output", str(tmp_path))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1/"):
            break
    assert len(namespaces_of(process)) == 6

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)

    assert (process.returncode, stderr) == (1, "interrupted\n")
    assert namespaces_of(process) == []
    assert list(tmp_path.iterdir()) == []


def test_a_case_whose_program_is_missing_is_named_and_the_others_go_on(
    lab: Lab, tmp_path: Path
) -> None:
    absent = Case("vpn", "A VPN", PEER, nothing, ("no-such-program", "ip"))
    results = run(lab, tmp_path, [absent, wire_case("veth")], Measure("count", count))

    assert results["vpn"].status == ABSENT
    assert results["vpn"].reasons == ["not installed: no-such-program"]
    assert results["veth"].values == {"count": [1.0, 1.0]}


def test_a_namespace_that_cannot_be_made_fails_its_case_only(lab: Lab, tmp_path: Path) -> None:
    results = run(lab, tmp_path, [wire_case("no/such"), wire_case("veth")], Measure("count", count))

    assert results["no/such"].status == FAILED
    assert "start: ip netns add" in results["no/such"].reasons[0]
    assert results["veth"].values == {"count": [1.0, 1.0]}


def stream_with_a_killed_server(subject: Subject) -> dict[str, float]:
    """one_stream, whose iperf3 server dies half-way in the case named "unlucky"."""
    if subject.pair.name != "unlucky":
        return one_stream(subject)

    def kill() -> None:
        wait_until(lambda: bool(subject.pair.server.pids()), "iperf3 runs")
        time.sleep(0.5)
        for pid in subject.pair.server.pids():
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return one_stream(subject)
    finally:
        killer.join()


def test_iperf3_failing_in_mid_run_fails_its_case_only(lab: Lab, tmp_path: Path) -> None:
    results = run(
        lab,
        tmp_path,
        [wire_case("unlucky"), wire_case("lucky")],
        Measure("stream", stream_with_a_killed_server),
        Measure("count", count),
    )

    unlucky, lucky = results["unlucky"], results["lucky"]
    assert unlucky.status == FAILED
    first, second = unlucky.reasons
    assert first.startswith("round 1/2, stream: iperf3")
    assert second.startswith("round 2/2, stream: iperf3")
    assert unlucky.values == {"count": [1.0, 1.0]}, "its other measures were taken"
    assert lucky.status == OK
    assert len(lucky.values["goodput-1-out"]) == 2


def test_a_program_that_dies_ends_its_case_with_its_last_words(lab: Lab, tmp_path: Path) -> None:
    def start(pair: Pair) -> None:
        pair.spawn(pair.server, "sh", "-c", "echo no key for you; exit 3")

    def start_and_die_later(pair: Pair) -> None:
        pair.spawn(pair.server, "sh", "-c", "sleep 2; echo out of luck; exit 4")

    at_once = Case("at-once", "at once", PEER, start)
    later = Case("later", "later", PEER, start_and_die_later, addresses=OUTER)
    until_dead = Measure("until-dead", lambda _: time.sleep(2.2) or {})
    results = run(
        lab, tmp_path, [at_once, wire_case("veth"), later], until_dead, Measure("count", count)
    )

    assert results["at-once"].reasons == ["start: sh (server) ended with code 3: no key for you"]
    first, second = results["later"].reasons
    assert first.endswith("sh (server) ended with code 4: out of luck")
    assert second.startswith("given up: ")
    assert "count" not in results["later"].values
    assert results["veth"].values == {"count": [1.0, 1.0]}


@pytest.fixture
def pair(lab: Lab, tmp_path: Path) -> Pair:
    return make_pair(lab, "wire", tmp_path)


def test_a_limited_wire_carries_its_rate_and_is_as_before_afterwards(pair: Pair) -> None:
    address = OUTER.server.bare_v4
    for reverse in (False, True):
        with pair.detour.limited(50e6):
            limited = iperf3(pair.client, pair.server, address, duration_s=1, reverse=reverse)
        free = iperf3(pair.client, pair.server, address, duration_s=1, reverse=reverse)
        assert 25e6 < limited.bits_per_second < 55e6
        assert free.bits_per_second > 200e6


def test_a_lossy_wire_loses_its_share_in_both_directions_and_then_none(pair: Pair) -> None:
    address = OUTER.server.bare_v4
    with pair.detour.lossy(500):
        lossy = ping(pair.client, address, n=200, interval_s=0.002)
    # Half of the requests and half of their answers: a quarter comes back, give or take 5 sigma.
    assert 20 < lossy.n_received < 81
    assert ping(pair.client, address, n=100, interval_s=0.002).n_received == 100


def test_every_measure_of_the_wire_returns_figures_that_are_known(lab: Lab, tmp_path: Path) -> None:
    one = Run(
        lab,
        tmp_path,
        Settings(is_quick=True, n_rounds=1, seconds=1, n_trials=1, socket_buffer_bytes=0),
        lambda _: None,
    )
    one.bring_up([wire_case("a-case-with-a-name-longer-than-a-device-can-have")])
    one.measure(MEASURES)

    (veth,) = one.cases
    assert veth.reasons == []
    only_of_programs = {
        "cpu-programs",
        "idle-wakeups",
        "memory-pss",
        "memory-rss",
        "start-up",
        "worker-killed",
    }
    only_if_quiet = {"cpu-machine"}
    known = {figure.name for figure in FIGURES}
    assert veth.values.keys() | only_of_programs | only_if_quiet == known


@pytest.mark.parametrize(("idle_share", "is_taken"), [(0.0, True), (1.5, False)])
def test_the_cpu_time_of_a_busy_machine_is_not_taken_for_the_tunnels(
    pair: Pair, idle_share: float, is_taken: bool
) -> None:
    figures = one_stream(Subject(pair, OUTER.server, seconds=1, n_trials=1, idle_share=idle_share))

    assert ("cpu-machine" in figures) == is_taken
    assert all(value > 0 for value in figures.values())


def test_a_killed_worker_costs_a_moment_and_what_has_no_workers_is_not_killed(
    lab: Lab, tmp_path: Path
) -> None:
    one = make_pair(lab, "restart", tmp_path)
    assert outage.after_kills(one, OUTER.server.bare_v4, n_rounds=1) == []
    fastun.start(one, wire="wireguard", scheme="udp")
    wait_until(lambda: answers_ping(one.client, INNER.server.bare_v4), "the tunnel", timeout_s=15)
    outages = outage.after_kills(one, INNER.server.bare_v4, n_rounds=1)
    assert len(outages) == 2 * 4
    assert all(0 < each < 10_000 for each in outages), outages
