"""`fastun bench` without a tunnel: its protocol and bounds, whom it finds, what it says."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import sys
import time
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from fastun.bench import protocol as bench_protocol
from fastun.bench import report, sink, traffic
from fastun.bench.figures import Live, LiveOneWay, Machine, OneWay, WireFigures
from fastun.bench.live import find
from fastun.bench.machine import CASES
from fastun.bench.protocol import (
    DURATION_MS_MAX,
    MAGIC,
    Kind,
    Received,
    Request,
    decode_received,
    decode_request,
    encode_received,
    encode_request,
)
from fastun.bench.stages import spent, us_per_mebibyte
from fastun.errors import ConfigError, RuntimeFailure
from fastun.native import ROLES
from tests.unit.top.test_top import connected, peer, status

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = encode_request(Request(Kind.SINK, 1000))


# -- the protocol -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("duration_ms", [1, DURATION_MS_MAX])
def test_a_request_comes_back_as_it_was(kind: Kind, duration_ms: int) -> None:
    request = Request(kind, duration_ms)
    assert len(encode_request(request)) == 16
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        b"GET / HTTP/1.1\r\n",
        b"x" + GOOD[1:],
        MAGIC + b"\0\0\0\0\0\0\3\xe8",  # no kind 0
        MAGIC + b"\4\0\0\0\0\0\3\xe8",
        MAGIC + b"\2\0\0\1\0\0\3\xe8",
        MAGIC + b"\2\0\0\0\0\0\0\0",
        MAGIC + b"\2\0\0\0" + (DURATION_MS_MAX + 1).to_bytes(4, "big"),
        MAGIC + b"\2\0\0\0\xff\xff\xff\xff",
    ],
)
def test_what_is_not_a_request_is_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match=r"bytes|not a request|Kind|a duration"):
        decode_request(encoded)


def test_what_was_received_comes_back_to_the_nanosecond() -> None:
    assert decode_received(encode_received(Received(2**63, 1.5))) == Received(2**63, 1.5)
    with pytest.raises(ValueError, match="15 bytes"):
        decode_received(bytes(15))


def test_nothing_received_divides_nothing_by_zero() -> None:
    assert Received(0, 0.0).bits_per_second == 0
    assert us_per_mebibyte(1.0, 0) == 0


# -- both ends over loopback ------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        with sink.attending([listener]):
            yield address


def test_both_directions_carry_for_as_long_as_was_asked(served: tuple[str, int]) -> None:
    for direction in ("send", "receive"):
        received = traffic.transfer(lambda: socket.create_connection(served), direction, 0.3)  # type: ignore[arg-type]
        assert 0.25 < received.duration_s < 1.5
        assert received.bits_per_second > 50e6


def test_a_sink_counts_every_byte(served: tuple[str, int]) -> None:
    with socket.create_connection(served) as connection:
        connection.sendall(encode_request(Request(Kind.SINK, 500)))
        assert connection.recv(8) == MAGIC
        connection.sendall(bytes(1_234_567))
        connection.shutdown(socket.SHUT_WR)
        assert decode_received(connection.recv(16)).n_bytes == 1_234_567


def test_round_trips_are_reported_in_order(served: tuple[str, int]) -> None:
    times = traffic.round_trips(lambda: socket.create_connection(served))
    assert 0 < times.min_ms <= times.median_ms <= times.max_ms < 1000


def test_a_stranger_gets_not_a_byte_and_the_next_one_is_served(served: tuple[str, int]) -> None:
    with socket.create_connection(served) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n")
        stranger.settimeout(2)
        assert stranger.recv(1) == b""
    assert traffic.round_trips(lambda: socket.create_connection(served)).min_ms > 0


def test_who_says_nothing_or_drips_is_let_go(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "_REQUEST_S", 0.5)
    started_s = time.monotonic()
    with socket.create_connection(served) as connection:
        with contextlib.suppress(OSError):  # reset, once it was let go
            for byte in GOOD[:-1]:
                connection.send(bytes([byte]))
                time.sleep(0.1)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    traffic.round_trips(lambda: socket.create_connection(served))
    assert time.monotonic() - started_s < 4


def test_who_never_stops_sending_is_cut_off(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_protocol, "GRACE_S", 0.2)
    with socket.create_connection(served) as connection:
        connection.sendall(encode_request(Request(Kind.SINK, 100)))
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            _send_for(connection, 5)


def _send_for(connection: socket.socket, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        connection.sendall(bytes(65536))


def test_one_is_served_at_a_time(served: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_ANSWER_S", 0.3)
    with socket.create_connection(served) as first:
        first.sendall(encode_request(Request(Kind.ECHO, 1000)))
        assert first.recv(8) == MAGIC
        with pytest.raises(traffic.NoAnswer, match="busy with another"):
            traffic.round_trips(lambda: socket.create_connection(served))
    assert traffic.round_trips(lambda: socket.create_connection(served)).min_ms > 0


def test_another_program_on_the_port_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
            stack.enter_context(theirs).sendall(b"220 mail ready\r\n")
            return ours

        with pytest.raises(traffic.NoAnswer, match="not fastun bench"):
            traffic.round_trips(connect)


# -- whom it finds ----------------------------------------------------------------------------

INNER = [ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64")]


def test_a_name_leads_to_the_addresses_that_are_the_peers_own() -> None:
    bee = connected("bee", inner_addresses=["10.9.0.7", "fd00:9::7"])
    found = find(status([connected("ant"), bee]), "bee", INNER)
    assert found == (bee, ["10.9.0.7", "fd00:9::7"])


def test_the_only_peer_without_one_is_looked_for_at_the_first_address() -> None:
    only = connected("server")
    assert find(status([only]), "server", INNER) == (only, ["10.9.0.1", "fd00:9::1"])
    ours = [ip_interface("10.9.0.1/24")]
    assert find(status([only]), "server", ours) == (only, ["10.9.0.2"])


def test_an_address_is_taken_as_it_is() -> None:
    bee = connected("bee", inner_addresses=["fd00:9::7"])
    both = status([connected("ant"), bee])
    assert find(both, "fd00:9:0::7", INNER) == (bee, ["fd00:9::7"])
    assert find(both, "192.0.2.9", INNER) == (None, ["192.0.2.9"])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("cat", ConfigError, "has no peer of that name; choose one of: ant, bee"),
        ("bee", RuntimeFailure, "'bee': not connected to ft0"),
        ("ant", ConfigError, "do not tell its own address; .* --peer ADDRESS"),
    ],
)
def test_a_peer_that_cannot_be_found_is_reported_with_the_fix(
    name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        find(status([connected("ant"), peer("bee")]), name, INNER)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "--peer", "x"], "--serve and --peer are the two ends"),
        (["--reverse"], "--reverse needs --peer"),
        (["-i", "ft0"], "--interface needs --peer or --serve"),
        (["--seconds", "61"], "61"),
        (["--seconds", "0"], "0"),
    ],
)
def test_options_that_cannot_go_together_are_one_line_and_code_2(
    arguments: list[str], message: str
) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr


@pytest.mark.parametrize("arguments", [["--peer", "x"], ["--serve"]])
def test_without_a_gateway_it_is_one_line_and_code_1(arguments: list[str], tmp_path: Path) -> None:
    done = bench(*arguments, "--run-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"fastun: no gateway is running (none listens in {tmp_path});"
        " start one, or give its --run-dir\n"
    )


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastun", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


# -- what it says -----------------------------------------------------------------------------

CPU = dict.fromkeys(ROLES, 12345.6)


def one_way(bits_per_second: float) -> OneWay:
    return OneWay(
        bits_per_second=bits_per_second,
        veth_bits_per_second=2 * bits_per_second,
        sender_cpu_us_per_mebibyte=CPU,
        receiver_cpu_us_per_mebibyte=CPU,
    )


MACHINE = Machine(
    version="0.1.0",
    kernel="6.18.44-some-long-name-of-a-build",
    cores=128,
    congestion_control="cubic",
    seconds=2.0,
    veth_ping_ms=0.04,
    wires=[
        WireFigures(
            wire=case.wire,
            transport=case.transport,
            ping_ms=123.45,
            to_server=one_way(123.45e9),
            to_client=one_way(999.9e6),
        )
        for case in CASES
    ],
)
LIVE = Live(
    version="0.1.0",
    interface="fastun0",
    wire="wireguard",
    peer="a-peer-with-a-name-of-sixty-three-characters-as-long-as-may-be-x",
    address="fd00:1234:5678:9abc:def0:1234:5678:9abc",
    transport="udp",
    seconds=60.0,
    round_trip_min_ms=1.0,
    round_trip_median_ms=2.0,
    round_trip_max_ms=3000.0,
    sending=LiveOneWay(bits_per_second=123.45e9, cpu_us_per_mebibyte=CPU),
    receiving=LiveOneWay(bits_per_second=1e3, cpu_us_per_mebibyte=CPU),
)


def printed(*parts: object) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=80, highlight=False).print(*parts, sep="\n")
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_tables_fit_80_columns_with_nothing_cut() -> None:
    lines = printed(*report.of_machine(MACHINE)) + printed(*report.of_peer(LIVE))
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]


def test_each_wire_has_its_ratio_to_veth_and_all_its_processor_time() -> None:
    lines = printed(*report.of_machine(MACHINE))
    goodput, stages = (line for line in lines if line.startswith("secure UDP"))
    assert " ".join(goodput.split()[2:]) == ("123.45 Gbit/s 0.50 999.9 Mbit/s 0.50 123.45 ms")
    assert stages.split()[2:] == ["12346", "12346", "12346", "12346", "49382", "98765"]


def test_it_says_when_the_machine_had_other_work_to_do() -> None:
    assert not [line for line in printed(*report.of_machine(MACHINE)) if "busy" in line]
    busy = msgspec.structs.replace(MACHINE, load_average=100.0)
    assert [line for line in printed(*report.of_machine(busy)) if "was busy (load 100.0)" in line]


def test_only_one_direction_is_shown_where_only_one_was_asked_for() -> None:
    lines = printed(*report.of_peer(msgspec.structs.replace(LIVE, peer="ant", sending=None)))
    assert not [line for line in lines if line.startswith("to ant")]
    assert [line for line in lines if line.startswith("from ant")]


def test_what_a_stage_spent_is_the_difference_of_two_looks() -> None:
    before = status(tun_reader={"cpu_seconds": 1.0})
    after = status(tun_reader={"cpu_seconds": 3.5}, link_writer={"cpu_seconds": 0.5})
    assert spent(before, after) == {
        "tun-reader": 2.5,
        "link-writer": 0.5,
        "link-reader": 0.0,
        "tun-writer": 0.0,
    }
    assert us_per_mebibyte(2.5, 2**21) == 1.25e6
