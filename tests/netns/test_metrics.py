"""The metrics of a running tunnel; tests/conftest.py has the topology."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fastun.lab.host import wait_until
from fastun.lab.traffic import iperf3
from fastun.lab.tunnel import PORT, start_gateway
from fastun.metrics.families import FAMILIES
from fastun.metrics.peer_terms import PEER_TERMS
from fastun.native import DROPS, ROLES
from tests.support.plain_peer import PlainPeer, frame, udp_packet
from tests.support.processes import worker_pid
from tests.support.prometheus import start_prometheus
from tests.support.scrapes import (
    assert_adds_up,
    drops,
    label,
    quiesced,
    responds,
    status_of,
)
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess
    from tests.conftest import StartTunnel

MEGABYTE = 10**6
ICMP_ERROR_MAX = 1280
WIRES = pytest.mark.parametrize("wire", ["wireguard", "plain"])
# An unsealed wire has no handshakes.
SEALED_ONLY = (
    "fastun_handshakes_total",
    "fastun_rekeys_total",
    "fastun_peer_last_handshake_timestamp_seconds",
)
AFTER_ERRORS = ("fastun_peer_last_error_timestamp_seconds", "fastun_peer_errors_total")
# Of a TAP device that switches, of clients with DNS, of attacked workers, of a fleet, of peers with
# such terms.
OF_SOME = (
    *(family.name for family in FAMILIES if family.name.startswith("fastun_fleet_")),
    "fastun_peer_mac_addresses",
    "fastun_dns_up",
    "fastun_worker_forbidden_calls_total",
    *(family.name for family in PEER_TERMS),
)
# What only a link over UDP has; these links are over TCP.
UDP_ONLY = (
    "fastun_peer_path_mtu_bytes",
    "fastun_path_mtu_narrowings_total",
    "fastun_path_mtu_hints_total",
    "fastun_udp_receive_queue_bytes",
    "fastun_udp_drops_total",
)


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} (Debian package prometheus)")


def assert_clean(gateway: GatewayProcess) -> None:
    """Both formats. promtool reads the classic one only; the other's parser is the library's."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=gateway.get("/metrics")[1],
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = gateway.get("/metrics", accept="application/openmetrics-text;version=1.0.0")[1]
    assert text.endswith("# EOF\n")
    assert {family.name for family in text_string_to_metric_families(text)} >= {
        family.name.removesuffix("_total") for family in FAMILIES
    }


# -- the format -------------------------------------------------------------------------------


@WIRES
def test_neither_text_format_has_a_fault_with_and_without_a_link(
    tunnel: StartTunnel, lab: Lab, tmp_path: Path, wire: str
) -> None:
    needs("promtool")
    pair = tunnel(wire=wire)
    iperf3(pair.client.host, pair.server.host, pair.server.inner_address, duration_s=1)
    lonely = start_gateway(lab.host("lonely"), tmp_path, "connect", f"tcp://127.0.0.1:{PORT}")
    for gateway in (pair.server, pair.client):
        assert_clean(gateway)
    wait_until(lambda: responds(lonely), "the lonely one answers")
    assert_clean(lonely)
    assert lonely.stop() == 0


@WIRES
def test_every_family_and_every_drop_reason_is_there_from_the_start(
    tunnel: StartTunnel, wire: str
) -> None:
    server = tunnel(wire=wire).server
    scrape, text = server.scrape(), server.get("/metrics")[1]
    names = {sample.partition("{")[0] for sample in scrape}
    for family in FAMILIES:
        assert f"\n# TYPE {family.name} {family.type}\n" in f"\n{text}"
        suffix = "_count" if family.type == "histogram" else ""
        absent = UDP_ONLY if wire == "wireguard" else (*SEALED_ONLY, *UDP_ONLY)
        has_samples = family.name not in (*absent, *AFTER_ERRORS, *OF_SOME)
        assert (family.name + suffix in names) == has_samples
    assert {f"{d.role} {d.reason}" for d in DROPS} == {
        f"{label(sample, 'role')} {label(sample, 'reason')}"
        for sample in scrape
        if sample.startswith("fastun_dropped_packets_total")
    }
    # What a host sends to its new device without a peer, or before the link, may be dropped.
    assert drops(scrape).keys() <= {("tun-reader", "no_peer"), ("tun-reader", "no_session")}


def test_handshakes_are_counted_by_what_became_of_them(tunnel: StartTunnel) -> None:
    server = tunnel(wire="wireguard").server
    began = server.scrape()
    for sent in (b"\x00\x94" + bytes(148), b"\x00\x94\x01\x00\x00\x00" + bytes(144)):
        with server.host.socket() as stranger:
            stranger.settimeout(5)
            stranger.connect(("10.0.0.1", PORT))
            stranger.sendall(sent)
            assert stranger.recv(1) == b""
    scrape = server.scrape()
    results = {
        label(sample, "result"): value - began[sample]
        for sample, value in scrape.items()
        if sample.startswith("fastun_handshakes_total") and value
    }
    assert results == {"ok": 0, "bad_type": 1, "bad_mac1": 1}
    assert scrape.total("fastun_hello_failures_total") == 2


def test_histograms_agree_with_the_counters(tunnel: StartTunnel) -> None:
    pair = tunnel(wire="plain")  # keepalives of a sealed one are in batches, and no frames
    start_transfer(
        pair.client.host, pair.server.host, pair.server.inner_address, n_bytes=10 * MEGABYTE
    ).result(timeout=30)
    scrape = quiesced(pair.client)
    for role in ROLES:
        frames = scrape.total("fastun_frames_total", role=role)
        n_queued = frames - scrape.total("fastun_batch_frames_sum", role=role)
        assert 0 <= n_queued <= (frames / 10 if role == "link-writer" else 0)
        assert 0 < scrape.total("fastun_batch_frames_count", role=role) <= frames
    for role in ("link-writer", "tun-writer"):
        frames = scrape.total("fastun_frames_total", role=role)
        assert scrape.total("fastun_queue_delay_seconds_count", role=role) == frames
        mean_s = scrape.total("fastun_queue_delay_seconds_sum", role=role) / frames
        assert 1e-6 < mean_s < 1
    assert scrape.total("fastun_syscalls_total", role="tun-reader", call="read") >= scrape.total(
        "fastun_frames_total", role="tun-reader"
    )


# -- agreement with others --------------------------------------------------------------------

LOAD_S = 8
WINDOW_S = 5
WINDOW_ENDS_S = 7  # after the start of the load, of which the window leaves out both ends


def load_and_its_intervals(client: Host, server: Host, address: str) -> tuple[float, list[float]]:
    """Send by iperf3 for LOAD_S; return when that began and the bytes/s of each second.

    At a steady rate that any machine carries: the two windows are the same to a few tenths of a
    second only, and at full speed the rate of a busy machine varies by half within one.
    """
    server.spawn("iperf3", "-s", "-1")
    wait_until(lambda: server.listens(5201), "iperf3 listens")
    done = client.run("iperf3", "--json", "-c", address, "-t", str(LOAD_S), "-b", "1G")
    intervals = [interval["sum"] for interval in json.loads(done.stdout)["intervals"]]
    began = time.time() - intervals[-1]["end"]
    return began, [interval["bytes"] / interval["seconds"] for interval in intervals]


def test_prometheus_measures_the_rate_that_iperf3_measures(
    tunnel: StartTunnel, tmp_path: Path
) -> None:
    needs("prometheus")
    pair = tunnel()
    server, client = pair.server.host, pair.client.host
    prometheus = start_prometheus(server, tmp_path / "prometheus", interval="500ms")
    began, bytes_per_s = load_and_its_intervals(client, server, pair.server.inner_address)
    in_window = bytes_per_s[WINDOW_ENDS_S - WINDOW_S : WINDOW_ENDS_S]
    found = prometheus.query(
        f'rate(fastun_bytes_total{{role="tun-writer"}}[{WINDOW_S}s])',
        time_s=began + WINDOW_ENDS_S,
    )
    rates = [series.value for series in found]
    print(f"Prometheus {rates}, iperf3 {in_window}")  # noqa: T201 (pytest shows it on failure)
    assert rates == [pytest.approx(sum(in_window) / WINDOW_S, rel=0.05)]
    # It asks for OpenMetrics, and rejects a whole scrape for one fault in it.
    assert [series.value for series in prometheus.query("up")] == [1]


# -- accounting -------------------------------------------------------------------------------

GOOD = udp_packet("10.99.0.2", "10.99.0.1", 7000, b"good")
NOT_IP = b"\x50" + bytes(40)
BAD_TYPE = b"\x03\x00\x00\x00" + bytes(60)  # an Ethernet frame on a TUN link
BAD_VIRTIO = b"\x02"  # a super-packet without its header


def test_packets_in_are_packets_out_and_drops_exactly(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
    gateway = start_gateway(
        server, tmp_path, "serve", "--listen", f"tcp://10.0.0.1:{PORT}",
        addresses=["10.99.0.1/24"],
    )  # fmt: skip
    wait_until(lambda: responds(gateway) and server.listens(PORT), "fastun listens", timeout_s=15)
    # With no peer, what the host sends waits a second and is dropped.
    server.run("ping", "-n", "-q", "-c", "30", "-i", "0.01", "-W", "1", "10.99.0.2", check=False)
    wait_until(
        lambda: drops(gateway.scrape()).get(("link-writer", "no_link"), 0) >= 30,
        "the pings are given up",
    )
    with PlainPeer(client, "10.0.0.1", PORT) as peer:
        peer.say_hello()
        mixed = frame(GOOD) * 5 + frame(NOT_IP) * 3 + frame(BAD_TYPE) * 2 + frame(BAD_VIRTIO)
        peer.send(mixed * 100)
        wait_until(
            lambda: gateway.scrape().total("fastun_packets_total", role="tun-writer") == 500,
            "the sound packets arrive",
        )
        server.ip("link", "set", "ft0", "down")
        peer.send(frame(GOOD) * 70)
        wait_until(
            lambda: drops(gateway.scrape()).get(("tun-writer", "device_down")) == 70,
            "the packets find the device down",
        )
        server.ip("link", "set", "ft0", "up")
        peer.send(frame(GOOD) * 20 + bytes(2))  # a length of 0 ends the stream
        assert peer.is_closed_by_peer()
    scrape = quiesced(gateway)
    counted = drops(scrape)
    assert counted.pop(("link-writer", "no_link")) >= 30
    assert counted == {
        ("link-reader", "not_ip"): 300,
        ("link-reader", "bad_type"): 200,
        ("link-reader", "bad_virtio"): 100,
        ("link-reader", "bad_length"): 1,
        ("tun-writer", "device_down"): 70,
    }
    assert scrape.total("fastun_packets_total", role="link-reader") == 1100 + 70 + 20 + 1
    assert scrape.total("fastun_peer_receive_packets_total") == 500 + 70 + 20
    assert scrape.total("fastun_device_receive_packets_total") == 500 + 20
    assert_adds_up(scrape)
    assert gateway.stop() == 0


def test_both_ends_count_the_same_under_load(tunnel: StartTunnel) -> None:
    pair = tunnel()
    client, server = pair.client, pair.server
    iperf3(client.host, server.host, server.inner_address, duration_s=1, n_streams=4)
    # fmt: off
    iperf3(client.host, server.host, server.inner_address, duration_s=1, udp_bits_per_second=0,
           size_bytes=64)
    # fmt: on
    server.host.run("ping", "-c1", "-W1", "10.99.0.77", check=False)  # no peer's: answered by ICMP
    scrapes = quiesced(client), quiesced(server)
    assert scrapes[1].total("fastun_icmp_answers_total") > 0
    for scrape in scrapes:
        assert_adds_up(scrape)
    for name in ("packets", "frames", "bytes"):
        for here, there in (scrapes, scrapes[::-1]):
            sent = here.total(f"fastun_{name}_total", role="link-writer")
            assert sent == there.total(f"fastun_{name}_total", role="link-reader")
            if name != "frames":
                assert sent == here.total(f"fastun_peer_transmit_{name}_total")
                assert sent == there.total(f"fastun_peer_receive_{name}_total")
    # The kernel's count of the device is an independent witness.
    for scrape in scrapes:
        n_answers = scrape.total("fastun_icmp_answers_total")
        for role, way, n_more in (
            ("tun-reader", "transmit", 0),
            ("tun-writer", "receive", n_answers),
        ):
            n_frames = scrape.total("fastun_frames_total", role=role)
            assert n_frames + n_more == scrape.total(f"fastun_device_{way}_packets_total")
            n_bytes = scrape.total(f"fastun_device_{way}_bytes_total")
            n_bytes -= scrape.total("fastun_bytes_total", role=role)
            assert 0 <= n_bytes <= n_more * ICMP_ERROR_MAX


@pytest.mark.parametrize("wire", ["wireguard", "plain"])
def test_no_counter_goes_back_when_workers_are_killed_under_load(
    tunnel: StartTunnel, wire: str
) -> None:
    pair = tunnel(wire=wire)
    gateway = pair.server
    counters = tuple(family.name for family in FAMILIES if family.type != "gauge")
    goes_on = True
    transfer = start_transfer(
        pair.client.host,
        gateway.host,
        gateway.inner_address,
        n_bytes=MEGABYTE,
        goes_on=lambda: goes_on,
    )
    # A connection not yet made would get an ICMP error while its peer is away, and give up.
    wait_until(
        lambda: gateway.scrape().total("fastun_bytes_total", role="tun-writer") > MEGABYTE,
        "the transfer runs",
    )
    highest: dict[str, float] = {}
    went_back: list[str] = []
    n_scrapes = 0

    def scrape_on() -> None:
        nonlocal n_scrapes
        while goes_on:
            for name, value in gateway.scrape().items():
                if name.startswith(counters) and value < highest.get(name, 0):
                    went_back.append(f"{name}: {highest[name]} to {value}")
                highest[name] = value
            n_scrapes += 1

    scraper = threading.Thread(target=scrape_on)
    scraper.start()
    try:
        for role in ROLES * 2:
            os.kill(worker_pid(gateway, role), signal.SIGKILL)
            time.sleep(0.1)
            wait_until(lambda: status_of(gateway, "/readyz") == 200, "the worker is replaced")
            wait_until(lambda: status_of(pair.client, "/readyz") == 200, "the link is back")
    finally:
        goes_on = False
        scraper.join()
    assert transfer.result(timeout=30).is_exact
    assert went_back == []
    assert n_scrapes > len(ROLES), "while workers were killed"
    final = gateway.scrape()
    assert all(final.total("fastun_worker_restarts_total", role=role) == 2 for role in ROLES)
    # A killed link-reader or link-writer ends the connection; others' successors go on with it.
    assert final.total("fastun_reconnects_total") == 4
