"""The plain wire between two gateways; the topology stands in tests/conftest.py."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import PORT, SERVER_ADDRESSES, start_gateway
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess, Tunnel
    from tests.conftest import StartTunnel

TEN_MEGABYTES = 10 * 10**6


def assert_carries_everything(pair: Tunnel) -> None:
    client, server = pair.client.host, pair.server.host
    for address in (pair.server.inner_address, pair.server.inner_address_v6):
        assert ping(client, address, n=10, size_bytes=1400).n_received == 10
        transfer = start_transfer(client, server, address, n_bytes=TEN_MEGABYTES)
        assert transfer.result(timeout=30).is_exact
    back = start_transfer(server, client, pair.client.inner_address, n_bytes=TEN_MEGABYTES)
    assert back.result(timeout=30).is_exact


def packets_per_frame(gateway: GatewayProcess, role: str = "tun-reader") -> float:
    scrape = gateway.scrape()
    return scrape.total("fastun_packets_total", role=role) / scrape.total(
        "fastun_frames_total", role=role
    )


@pytest.mark.parametrize("mode", ["tun", "tap"])
@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("wire", ["wireguard", "plain"])
def test_both_families_travel_inside_both_families_as_super_packets(
    tunnel: StartTunnel, wire: str, mode: str, outer: int
) -> None:
    pair = tunnel(wire=wire, mode=mode, outer=outer)
    gateways = (pair.client, pair.server)
    before = [gateway.scrape().dropped() for gateway in gateways]  # what came before the link
    assert_carries_everything(pair)
    assert packets_per_frame(pair.client) > 4
    assert [gateway.scrape().dropped() for gateway in gateways] == before


@pytest.mark.parametrize("side", ["server", "client"])
def test_gso_off_on_one_side_means_no_super_packet_of_its_kernel_nor_for_it(
    tunnel: StartTunnel, tmp_path: Path, side: str
) -> None:
    file = tmp_path / "no-gso.toml"
    file.write_text("[interface]\ngso = false\n")
    pair = tunnel(wire="plain", **{f"{side}_arguments": ("-c", str(file))})
    assert_carries_everything(pair)
    gateway = getattr(pair, side)
    assert packets_per_frame(gateway, "tun-reader") == 1
    assert packets_per_frame(gateway, "tun-writer") == 1


def test_no_ping_is_lost_in_either_direction(tunnel: StartTunnel) -> None:
    pair = tunnel()
    for source, destination in ((pair.client, pair.server), (pair.server, pair.client)):
        result = ping(source.host, destination.inner_address, n=200, interval_s=0.005)
        assert result.n_received == 200


def test_a_server_outlives_its_client_and_takes_the_next(
    tunnel: StartTunnel, tmp_path: Path
) -> None:
    pair = tunnel(wire="plain")
    for _ in range(3):
        assert pair.client.stop() == 0
        again = start_gateway(
            pair.client.host,
            tmp_path,
            "connect",
            f"tcp://10.0.0.1:{PORT}",
            addresses=pair.client.addresses,
        )
        pair = type(pair)(pair.server, again)
        pair.wait_up()
    assert again.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("wire", ["wireguard", "plain"])
def test_a_client_finds_its_server_again(
    tunnel: StartTunnel, tmp_path: Path, wire: str, how: signal.Signals
) -> None:
    pair = tunnel(wire=wire)
    is_back = threading.Event()
    transfer = start_transfer(
        pair.client.host,
        pair.server.host,
        pair.server.inner_address,
        n_bytes=10**8,
        goes_on=lambda: not is_back.is_set(),
    )
    pair.server.stop(how)
    wait_until(lambda: "ft0" not in pair.server.host.devices(), "the device goes")
    server = start_gateway(
        pair.server.host,
        tmp_path,
        "serve",
        "--listen",
        f"tcp://10.0.0.1:{PORT}",
        wire=wire,
        addresses=SERVER_ADDRESSES,
    )
    wait_until(
        lambda: answers_ping(pair.client.host, pair.server.inner_address),
        "the tunnel is back",
    )
    assert pair.client.scrape().total("fastun_reconnects_total") == 1
    is_back.set()
    # The inner connection has outlived its tunnel.
    assert transfer.result(timeout=60).is_exact
    assert server.stop() == 0


@pytest.mark.parametrize(("wire", "reason"), [("wireguard", "no_session"), ("plain", "no_link")])
def test_packets_without_a_peer_are_dropped_with_a_reason_and_counted_exactly(
    tunnel: StartTunnel, wire: str, reason: str
) -> None:
    pair = tunnel(wire=wire)
    assert pair.server.stop() == 0
    client = pair.client.host
    before = pair.client.scrape()
    n_pings = 50
    client.run("ping", "-q", "-c", str(n_pings), "-i", "0.002", "-W", "1",
               pair.server.inner_address, check=False)  # fmt: skip

    def adds_up() -> bool:
        scrape = pair.client.scrape()
        taken_in = scrape.total("fastun_packets_total", role="tun-reader")
        sent = scrape.total("fastun_packets_total", role="link-writer")
        dropped = scrape.total("fastun_dropped_packets_total", direction="outbound")
        return taken_in == sent + dropped

    wait_until(adds_up, "packets in = packets out + drops")
    grown = pair.client.scrape().total("fastun_dropped_packets_total", reason=reason)
    assert grown - before.total("fastun_dropped_packets_total", reason=reason) >= n_pings


def test_a_deleted_device_ends_the_gateway_with_one_line(tunnel: StartTunnel) -> None:
    pair = tunnel()
    pair.client.asked_to_stop = True
    pair.client.host.ip("link", "delete", pair.client.interface)
    assert pair.client.process.wait(5) == 1
    assert any("deleted" in line for line in pair.client.log_tail())


def test_a_device_set_down_drops_with_a_reason_and_works_again_when_up(
    tunnel: StartTunnel,
) -> None:
    pair = tunnel()
    server = pair.server.host
    server.ip("link", "set", pair.server.interface, "down")
    assert not answers_ping(pair.client.host, pair.server.inner_address)
    assert pair.server.scrape().total("fastun_dropped_packets_total", reason="device_down") > 0
    server.ip("link", "set", pair.server.interface, "up")
    wait_until(lambda: answers_ping(pair.client.host, pair.server.inner_address), "up again")
