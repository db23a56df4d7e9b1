"""Several lanes on UDP while links change: TCP takes over, the server is drained, workers die.

See tests/conftest.py for the topology of what starts a tunnel.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, UDP_PORT, start_gateway
from fastun.native import ROLES
from fastun.session import keys
from tests.support import reloading
from tests.support.accounting import assert_adds_up
from tests.support.blocked_udp import block_udp, unblock_udp
from tests.support.lanes_at_once import AT_ONCE
from tests.support.lanes_load import lanes_of, loaded, wait_for_lanes
from tests.support.lanes_seen import (
    assert_each_lane_adds_up,
    handshakes_of,
    n_connections,
)
from tests.support.numbered import asking
from tests.support.processes import kill_worker
from tests.support.reloading import SERVER_INNER
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess
    from tests.conftest import StartTunnel

N_LANES = 4
LANES = ("--lanes", str(N_LANES))

# With one lane it takes three seconds and a half (fastun/link/preference.py), and what was lost is
# sent again when TCP inside thinks it is time.
LIMIT_S = 15


def test_streams_take_over_from_several_lanes_under_load_and_these_from_them(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", AT_ONCE)
    pair = tunnel(transport="both", server_arguments=LANES, client_arguments=LANES)
    server, client, address = pair.server, pair.client, pair.server.inner_address
    for _ in range(2):
        with loaded(client.host, server.host, address):
            for gateway in (client, server):
                wait_for_lanes(gateway, N_LANES, timeout_s=60)
            assert n_connections(client) == 0
            there = start_transfer(client.host, server.host, address, n_bytes=3 * 10**7)
            block_udp(server.host)
            wait_until(lambda: n_connections(client) == N_LANES, "streams", timeout_s=LIMIT_S)
            assert there.result(timeout=60).is_exact
        unblock_udp(server.host)
        wait_until(lambda: n_connections(client) == 0, "UDP again", timeout_s=60)
        wait_until(lambda: answers_ping(client.host, address), "an answer")
    back = start_transfer(server.host, client.host, client.inner_address, n_bytes=2 * 10**6)
    assert back.result(timeout=60).is_exact
    assert_adds_up((server, client))


@pytest.fixture
def two_servers(lab: Lab, tmp_path: Path) -> tuple[GatewayProcess, GatewayProcess, GatewayProcess]:
    """Two servers with one key and one address, and a client that knows both."""
    client, own = lab.host("client"), keys.pair_of(keys.generate_private())
    pair = keys.pair_of(keys.generate_private())
    private = tmp_path / "server.key"
    private.touch(0o600)
    private.write_text(keys.format_key(own.private))
    sections = {
        "interface": f'private_key_file = "{private}"\naddress = ["{SERVER_INNER}/24"]\nlanes = 4'
    }
    peers = {"client": (keys.format_key(pair.public), ("10.99.0.2/32",))}
    reloading.write(tmp_path / "gateway.toml", sections, peers)
    servers = []
    for n in (1, 2):
        host = lab.host(f"server{n}")
        lab.wire(host, client, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        arguments = ("-c", str(tmp_path / "gateway.toml"))
        servers.append(
            start_gateway(host, tmp_path, "serve", *arguments, wire="wireguard", program=AT_ONCE)
        )
        wait_until(lambda h=host: h.listens(UDP_PORT, udp=True), "it listens", timeout_s=15)
    file = tmp_path / "client.toml"
    file.touch(0o600)
    file.write_text(
        f'[interface]\nprivate_key = "{keys.format_key(pair.private)}"\n'
        'address = ["10.99.0.2/24"]\nlanes = 4\n'
        f'[[peer]]\nname = "server"\npublic_key = "{keys.format_key(own.public)}"\n'
        f'endpoints = ["udp://10.0.1.1:{UDP_PORT}", "udp://10.0.2.1:{UDP_PORT}"]\n'
        'allowed_ips = ["10.99.0.0/24"]\n'
    )
    dialling = start_gateway(
        client, tmp_path, "connect", str(file), wire="wireguard", program=AT_ONCE
    )
    wait_until(lambda: answers_ping(client, SERVER_INNER), "the tunnel", timeout_s=20)
    if lanes_of(servers[0]) == []:  # the other has answered first
        servers.reverse()
    return servers[0], servers[1], dialling


def test_a_client_with_all_lanes_open_goes_to_another_server_and_loses_nothing(
    two_servers: tuple[GatewayProcess, GatewayProcess, GatewayProcess],
) -> None:
    """What the one that is drained has answered by any lane, on its way still, arrives as well."""
    drained, other, client = two_servers
    with loaded(client.host, drained.host, SERVER_INNER):
        for gateway in (client, drained):
            wait_for_lanes(gateway, N_LANES)
        with asking(client.host, drained.host, SERVER_INNER, other.host) as asked:
            time.sleep(0.5)
            words = ("drain", "--timeout", "30", "--run-dir", str(drained.log_file.parent))
            done = drained.host.run(*FASTUN, *words)
            assert done.stdout.splitlines()[-1] == "ft0: drained"
            for gateway in (client, other):
                wait_for_lanes(gateway, N_LANES)
    print(asked.n_sent, asked.n_lost())  # noqa: T201
    assert asked.n_lost() == 0
    assert drained.process.wait(10) == 0
    for gateway in (client, other):
        assert_each_lane_adds_up(gateway)


@pytest.mark.parametrize("when_s", [0.0, 0.7, 1.5])
def test_udp_is_blocked_while_lanes_are_opening_and_is_there_again(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch, when_s: float
) -> None:
    """Another lane is proven each half second, so each time more of them are half open."""
    monkeypatch.setattr(lab_tunnel, "FASTUN", AT_ONCE)
    pair = tunnel(transport="both", server_arguments=LANES, client_arguments=LANES)
    server, client, address = pair.server, pair.client, pair.server.inner_address
    wait_until(lambda: n_connections(client) == 0, "UDP", timeout_s=20)
    for _ in range(2):
        with loaded(client.host, server.host, address):
            time.sleep(when_s)
            there = start_transfer(client.host, server.host, address, n_bytes=10**7)
            block_udp(server.host)
            wait_until(lambda: n_connections(client) == N_LANES, "streams", timeout_s=LIMIT_S)
            unblock_udp(server.host)
            wait_until(lambda: n_connections(client) == 0, "UDP again", timeout_s=60)
            for gateway in (client, server):
                wait_for_lanes(gateway, N_LANES, timeout_s=60)
            assert there.result(timeout=60).is_exact
    assert_adds_up((server, client))


@pytest.mark.parametrize("side", ["client", "server"])
def test_workers_and_templates_killed_while_lanes_are_opening_cost_no_session(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", AT_ONCE)
    pair = tunnel(transport="udp", server_arguments=LANES, client_arguments=LANES)
    server, client, address = pair.server, pair.client, pair.server.inner_address
    killed, handshakes = pair.client if side == "client" else server, handshakes_of(server)
    with loaded(client.host, server.host, address):
        for n, role in enumerate((*ROLES, *ROLES)):
            kill_worker(killed, f"{role}/{1 + n % (N_LANES - 1)}")
            kill_worker(killed, "template")
            time.sleep(0.2)
        for gateway in (client, server):
            wait_for_lanes(gateway, N_LANES, timeout_s=40)
        there = start_transfer(client.host, server.host, address, n_bytes=10**7)
        assert there.result(timeout=60).is_exact
    assert handshakes_of(server) - handshakes <= 1  # a rekey may be due
    for gateway in (client, server):
        assert_each_lane_adds_up(gateway)
