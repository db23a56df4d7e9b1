"""`fastun capture` beside traffic, on a TUN by UDP and on a TAP by TCP: the file has what went by.

server                                  client
fastun serve, ft0 10.99.0.1  ===veth=== fastun connect, ft0 10.99.0.2
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import LabError, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import iperf3, ping
from fastun.lab.tunnel import Tunnel, start_tunnel
from tests.support import pcapng_file
from tests.support.processes import worker_pid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess

CAPTURE = (sys.executable, "-m", "fastun", "capture")


@dataclass
class Captured:
    tunnel: Tunnel
    home: Path
    mode: str

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        host, home = self.tunnel.server.host, str(self.home / "server")
        return host.run(*CAPTURE, "--run-dir", home, *arguments, check=check)

    @contextlib.contextmanager
    def running(self, name: str, *arguments: str) -> Iterator[Path]:
        """A capture into a file, until Ctrl-C, when it has begun."""
        file = self.home / name
        with (self.home / f"{name}.log").open("wb") as log:
            process = self.tunnel.server.host.spawn(
                *CAPTURE,
                *("--run-dir", str(self.home / "server"), "-w", str(file), *arguments),
                stderr=log,
            )
        wait_until(lambda: file.exists() and file.stat().st_size > 0, "it begins", timeout_s=15)
        self.wait_for_workers()
        try:
            yield file
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        print((self.home / f"{name}.log").read_text())  # noqa: T201

    def wait_for_workers(self) -> None:
        """What follows is behind the order to capture in the workers' channels."""
        ping(self.tunnel.client.host, self.tunnel.server.inner_address)

    def frames(self, *roles: str) -> float:
        scrape = self.tunnel.server.scrape()
        return sum(scrape.total("fastun_frames_total", role=role) for role in roles)


@pytest.fixture(scope="module", params=["tun", "tap"])
def captured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Captured]:
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        home = tmp_path_factory.mktemp(request.param)
        transport = "udp" if request.param == "tun" else "tcp"
        tunnel = start_tunnel(
            server, client, "10.0.0.1", home, mode=request.param, transport=transport
        )
        tunnel.wait_up()
        yield Captured(tunnel, home, request.param)


def test_what_is_captured_and_what_is_lost_is_what_went_by(captured: Captured) -> None:
    roles = ("tun-reader", "tun-writer")
    tunnel = captured.tunnel
    before = captured.frames(*roles)
    with captured.running("device.pcapng") as file:
        at_first = captured.frames(*roles)
        iperf3(tunnel.client.host, tunnel.server.host, tunnel.server.inner_address, duration_s=1)
        at_last = captured.frames(*roles)
    after = captured.frames(*roles)
    capture = pcapng_file.parse(file.read_bytes())
    (device,) = capture.interfaces
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert device.link_type == (101 if captured.mode == "tun" else 1)
    assert len(capture.packets) + device.dropped == device.received
    print(len(capture.packets), device.dropped, at_last - at_first)  # noqa: T201
    assert at_last - at_first <= device.received <= after - before
    assert {packet.is_inbound for packet in capture.packets} == {True, False}


def test_a_ping_is_seen_at_each_stage_that_it_comes_by(captured: Captured) -> None:
    stages = [word for stage in ("device", "sealed", "opened") for word in ("--stage", stage)]
    with captured.running("stages.pcapng", *stages) as file:
        ping(captured.tunnel.client.host, captured.tunnel.server.inner_address)
    capture = pcapng_file.parse(file.read_bytes())
    assert [each.name for each in capture.interfaces] == ["ft0-device", "ft0-sealed", "ft0-opened"]
    seen = {(packet.interface, packet.is_inbound) for packet in capture.packets}
    assert seen == {(0, True), (0, False), (1, True), (1, False), (2, True)}


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [("opened", "ICMP echo request"), ("sealed", "10.0.0.2.*10.0.0.1.51820: UDP, length 128")],
)
def test_tcpdump_reads_it(captured: Captured, stage: str, wanted: str) -> None:
    if captured.mode == "tap":
        wanted = {"sealed": "UDP, length", "opened": wanted}[stage]
    host, address = captured.tunnel.client.host, captured.tunnel.server.inner_address
    with captured.running(f"{stage}.pcapng", "--stage", stage, "--peer", "client") as file:
        ping(host, address)
        host.run("ping", "-c2", "-i0.1", "-s1000", address)  # longer than the capture takes
    read = captured.tunnel.server.host.run("tcpdump", "-nr", str(file)).stdout
    print(read)  # noqa: T201
    assert re.search(wanted, read)
    assert re.search("length 1[0-9]{3}", read)


def test_a_dropped_packet_has_its_reason(captured: Captured) -> None:
    if captured.mode == "tap":
        pytest.skip("a TAP with one peer drops nothing of it")
    host = captured.tunnel.server.host
    host.ip("route", "add", "10.98.0.0/24", "dev", "ft0")
    with captured.running("drops.pcapng") as file:
        host.run("ping", "-c1", "-W1", "-n", "10.98.0.1", check=False)
    comments = [packet.comment for packet in pcapng_file.parse(file.read_bytes()).packets]
    assert any(comment.startswith("dropped by the tun-reader: no_peer (") for comment in comments)


def test_a_replaced_worker_captures_on(captured: Captured) -> None:
    server = captured.tunnel.server
    with captured.running("replaced.pcapng", "--stage", "device") as file:
        old = worker_pid(server, "tun-writer")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: new_worker(server, old), "it is replaced")
        began_ns = time.time_ns()
        ping(captured.tunnel.client.host, server.inner_address)
    packets = pcapng_file.parse(file.read_bytes()).packets
    assert any(packet.is_inbound and packet.time_ns > began_ns for packet in packets)


def new_worker(server: GatewayProcess, old: int) -> bool:
    with contextlib.suppress(LabError, psutil.Error):  # it is being replaced
        return worker_pid(server, "tun-writer") != old
    return False


def test_it_ends_after_so_many_packets_and_at_once_for_a_reader_that_went(
    captured: Captured,
) -> None:
    host, server = captured.tunnel.server.host, captured.tunnel.server
    pings = host.spawn("ping", "-i0.2", "-q", captured.tunnel.client.inner_address)
    try:
        done = captured.run("-w", str(captured.home / "five"), "--packets", "5")
        assert len(pcapng_file.parse((captured.home / "five").read_bytes()).packets) == 5
        assert "device: 5 captured" in done.stderr
        home = str(captured.home / "server")
        command = " ".join((*CAPTURE, "--run-dir", home, "|", "head -c 100 >/dev/null"))
        host.run("sh", "-c", command)
        done = captured.run("--packets", "1", "-w", str(captured.home / "again"))  # it is over
    finally:
        pings.kill()
        pings.wait()
    assert server.process.poll() is None


def test_a_second_capture_is_refused_until_the_first_is_killed(captured: Captured) -> None:
    host, home = captured.tunnel.server.host, str(captured.home / "server")
    first = captured.home / "first"
    process = host.spawn(*CAPTURE, "--run-dir", home, "-w", str(first))
    wait_until(lambda: first.exists() and first.stat().st_size > 0, "it begins", timeout_s=15)
    refused = captured.run("-w", str(captured.home / "second"), check=False)
    assert refused.returncode == 1
    assert "another capture runs" in refused.stderr
    assert not (captured.home / "second").exists()
    process.kill()
    process.wait()
    captured.run("-w", str(captured.home / "third"), "--seconds", "0.1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--peer", "missing"), "--peer 'missing': no such peer; 'fastun status --all'"),
        (("-w", "/nowhere/file"), "-w /nowhere/file: cannot be made (No such file"),
        (("-w", "/dev/full"), "-w /dev/full: it exists; remove it"),
        (("--size", "much"), "--size: 'much' is not a size"),
    ],
)
def test_what_cannot_be_is_one_line(
    captured: Captured, arguments: tuple[str, ...], line: str
) -> None:
    if captured.mode == "tap":
        pytest.skip("as on a TUN")
    refused = captured.run(
        "--seconds", "1", "-w", str(captured.home / "bad"), *arguments, check=False
    )
    assert refused.returncode == 2
    assert line in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
