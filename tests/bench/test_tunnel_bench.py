"""The benchmark's numbers: the search, percentiles, medians and ratios, and the files it keeps."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tunnel import plot, report
from bench.tunnel import results as result_files
from bench.tunnel.cases import CASES
from bench.tunnel.comparison import compare
from bench.tunnel.figures import FIGURES, HIGHER, LOWER, Figure
from bench.tunnel.pings import parse_round_trips_ms, percentiles
from bench.tunnel.results import CaseResult, Machine, Results, Settings
from bench.tunnel.search import RESOLUTION, Trial, highest_rate
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GENERATOR_MAX = 1_000_000.0
GOODPUT = Figure("goodput", "goodput", "Gbit/s", HIGHER, "Gbit/s")
DELAY = Figure("delay", "delay", "ms", LOWER, "ms")


def path_of(capacity: float, overrun_share: float = 1.0) -> Callable[[float | None], Trial]:
    """A path that carries `capacity` packets a second; overrun, only a share of that."""

    def run_trial(rate: float | None) -> Trial:
        sent = min(rate or GENERATOR_MAX, GENERATOR_MAX)
        delivered = sent if sent <= capacity else capacity * overrun_share
        return Trial(sent, delivered, 1 - delivered / sent)

    return run_trial


@given(
    capacity=st.floats(GENERATOR_MAX / 500, GENERATOR_MAX * 0.98),
    overrun_share=st.floats(0.01, 1.0),
)
def test_the_search_finds_what_a_path_carries(capacity: float, overrun_share: float) -> None:
    found = highest_rate(path_of(capacity, overrun_share), n_trials_max=40)

    assert capacity / RESOLUTION <= found <= capacity


def test_what_the_generator_cannot_overrun_needs_one_trial() -> None:
    assert highest_rate(path_of(2 * GENERATOR_MAX), n_trials_max=1) == GENERATOR_MAX


def test_a_path_that_loses_at_every_rate_carries_nothing() -> None:
    assert highest_rate(lambda rate: Trial(rate or 1e6, 0.99e6, 0.01), n_trials_max=8) == 0


def test_the_search_keeps_to_its_number_of_trials() -> None:
    asked = []

    def run_trial(rate: float | None) -> Trial:
        asked.append(rate)
        return path_of(12_345)(rate)

    assert highest_rate(run_trial, n_trials_max=4) <= 12_345
    assert len(asked) <= 4


def test_a_queue_that_hides_the_loss_does_not_pass() -> None:
    assert Trial(1000, 999.5, 0).passes
    assert not Trial(1000, 900, 0).passes
    assert not Trial(1000, 999, 0.001).passes


def test_round_trips_are_those_of_answers_to_ones_own_requests() -> None:
    text = """PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.
64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.048 ms
64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.050 ms (DUP!)
From 10.0.0.2 icmp_seq=2 Destination Host Unreachable
64 bytes from 10.0.0.1: icmp_seq=3 ttl=64 time=12 ms

--- 10.0.0.1 ping statistics ---
3 packets transmitted, 2 received, +1 duplicates, 33.3% packet loss, time 20ms
rtt min/avg/max/mdev = 0.048/6.024/12.000/5.976 ms
"""
    assert parse_round_trips_ms(text) == [0.048, 12.0]


def test_the_99th_percentile_is_one_of_the_times() -> None:
    assert percentiles([float(value) for value in range(200, 0, -1)]) == (100.5, 198.0)
    assert percentiles([3.0]) == (3.0, 3.0)


def case(name: str, kind: str, **values: list[float]) -> CaseResult:
    return CaseResult(name=name, title=name.title(), kind=kind, values=values)


FOUR = (
    case("veth", "baseline", goodput=[40.0, 20.0, 30.0], delay=[0.1]),
    case("ours", "fastun", goodput=[10.0, 11.0, 9.0], delay=[0.4]),
    case("quick", "peer", goodput=[1.0, 3.0, 2.0], delay=[0.5]),
    case("prompt", "peer", goodput=[0.5], delay=[0.2]),
)


def test_medians_are_beside_their_spread_and_their_ratios() -> None:
    ours = compare(GOODPUT, FOUR)[1]

    assert (ours.median, ours.least, ours.most) == (10, 9, 11)
    assert (ours.to_baseline, ours.to_best_peer) == (pytest.approx(1 / 3), 5)


def test_the_best_peer_is_the_one_with_the_least_where_less_is_better() -> None:
    assert compare(DELAY, FOUR)[1].to_best_peer == 2


def test_without_a_baseline_or_a_peer_there_is_no_ratio() -> None:
    (ours,) = compare(GOODPUT, FOUR[1:2])
    assert (ours.to_baseline, ours.to_best_peer) == (None, None)
    (_, peer) = compare(GOODPUT, [FOUR[0], case("stuck", "peer", goodput=[0.0])])
    assert (peer.to_baseline, peer.to_best_peer) == (0, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0479, "0.048"), (0.333, "0.33"), (2.345, "2.35"), (30.66, "30.7"),
     (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_three_digits_at_most_after_the_first(value: float, text: str) -> None:
    assert report.number(value) == text


@pytest.fixture
def results() -> Results:
    failed = case("broken", "peer", goodput=[1.5])
    failed.fail("round 2/3, one-stream: iperf3: the server has terminated")
    absent = CaseResult(name="absent", title="Absent", kind="peer", status="absent")
    absent.reasons.append("not installed: absent")
    return Results(
        date="2026-11-22T12:00:00+00:00",
        duration_s=90.0,
        machine=Machine(
            cpu="A CPU", n_cpus=2, memory_mib=2048, kernel="6.1", system="Debian", python="3.11",
            congestion_control="cubic", versions={"fastun": "1"}, commit="abc", load_average=0.5,
        ),
        settings=Settings(
            is_quick=True, n_rounds=3, seconds=1, n_trials=4, socket_buffer_bytes=4096
        ),
        idle_shares=[0.01],
        figures=(GOODPUT, DELAY),
        cases=[*FOUR, failed, absent],
    )  # fmt: skip


def test_a_result_is_read_back_as_it_was_written(results: Results, tmp_path: Path) -> None:
    result_files.write(results, tmp_path / "result.json")

    assert result_files.read(tmp_path / "result.json") == results


def test_a_file_that_is_not_a_result_is_refused_by_name(results: Results, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    newer = msgspec.structs.replace(results, format=result_files.FORMAT + 1)
    for content in (b"", b"[]", b'{"format": 1}', msgspec.json.encode(newer)):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"result\.json"):
            result_files.read(file)
    with pytest.raises(ConfigError, match="No such file"):
        result_files.read(tmp_path / "nothing.json")


def test_the_report_says_what_failed_what_is_absent_and_on_which_machine(results: Results) -> None:
    text = report.as_markdown(results)

    assert "Broken: failed: round 2/3, one-stream: iperf3: the server has terminated" in text
    assert "Absent: absent: not installed: absent" in text
    assert "2 CPUs (A CPU), 2 GiB, Debian, Linux 6.1" in text
    assert "| Ours | 10.0 | 9.00 | 11.0 | x 0.33 | x 5.00 |" in text


def test_the_report_says_that_the_machine_was_not_quiet(results: Results) -> None:
    assert "not quiet" not in report.as_markdown(results)
    results.idle_shares.append(0.5)
    assert "0.50 CPUs: this machine was not quiet" in report.as_markdown(results)


def test_show_prints_the_table_of_a_stored_result(results: Results, tmp_path: Path) -> None:
    result_files.write(results, tmp_path / "result.json")

    shown = bench("show", str(tmp_path / "result.json"))

    assert shown.returncode == 0
    assert "x 5.00" in shown.stdout
    assert "the server has terminated" in shown.stdout


def test_both_plots_are_written(results: Results, tmp_path: Path) -> None:
    png, svg = plot.write_plots(results, tmp_path / "a.result")

    assert png.read_bytes().startswith(b"\x89PNG")
    assert "Gbit/s, higher is better" in svg.read_text(encoding="utf-8").replace("<!-- ", "")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.tunnel", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--cases", "veth,openvpn"), "no openvpn; there is veth, "),
        (("--measures", "speed"), "no speed; there is one-stream, "),
        (("--rounds", "0"), "'0': a whole number from 1 on"),
        (("show",), "FILE"),
        (("show", "/nothing.json"), "/nothing.json: No such file or directory"),
        (("against", "--unconfined", "--rounds", "5"), "--rounds must be 6 or more"),
        (("lanes", "--rounds", "5"), "--rounds must be 6 or more"),
        (("lanes", "--seconds", "0"), "--seconds 1 or more"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(
    arguments: tuple[str, ...], complaint: str
) -> None:
    done = bench(*arguments)

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_names_are_unique() -> None:
    for named in (CASES, FIGURES):
        for one, other in itertools.combinations(named, 2):
            assert one.name != other.name
