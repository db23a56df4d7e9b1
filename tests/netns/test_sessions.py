"""The wireguard wire: peers come and go, keys change under load, nobody else gets in.

server                                      client, second, ...
fastun serve, ft0 10.99.0.1  ===veth===     fastun connect, ft0 10.99.0.2, .3, ...
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import SERVER_ADDRESSES, GatewayProcess, add_peer, start_gateway
from fastun.session import keys
from tests.support.compressed_time import gateway_with
from tests.support.hijacked import held
from tests.support.processes import worker_pid
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Transport
    from tests.conftest import StartTunnel

SERVER_INNER = "10.99.0.1"
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "udp"])
# The gateway under timers a thousand times as fast; all else is as fastun starts it.
COMPRESSED = gateway_with(
    rekey_after_time_s=0.15, reject_after_time_s=30.0, rekey_timeout_s=0.1, jitter_s=0.01
)

# Keys that end after 2 s, and nothing that asks for others before data does.
SHORT_LIVED = gateway_with(
    rekey_after_time_s=1.5, reject_after_time_s=2.0, rekey_timeout_s=0.1, keepalive_timeout_s=0.2
)


class Office:
    """A server and any number of clients, each on a host of its own."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        self.lab = lab
        self.tmp_path = tmp_path
        self.host = lab.host("server")
        self.server: GatewayProcess | None = None

    def serve(self) -> GatewayProcess:
        self.server = start_gateway(
            self.host, self.tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES
        )
        wait_until(lambda: self.host.listens(55555), "the server listens", timeout_s=15)
        return self.server

    def client_host(self, n: int) -> Host:
        host = self.lab.host(f"c{n}")
        self.lab.wire(self.host, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        return host

    def connect(
        self, n: int, file: Path | None = None, transport: Transport = "tcp"
    ) -> GatewayProcess:
        assert self.server is not None
        host = self.client_host(n)
        file = file or add_peer(self.server, f"client{n}", f"10.0.{n}.1", transport)
        return start_gateway(host, self.tmp_path, "connect", str(file), wire="wireguard")

    def peer(self, *arguments: str) -> str:
        """Run `fastun peer`; return what it says on stderr."""
        command = [sys.executable, "-m", "fastun", "peer", *arguments]
        return self.host.run(*command, "--state", str(self.tmp_path / "server")).stderr


@pytest.fixture
def office(lab: Lab, tmp_path: Path) -> Office:
    return Office(lab, tmp_path)


def wait_for_answer(host: Host) -> None:
    wait_until(lambda: answers_ping(host, SERVER_INNER), "the tunnel", timeout_s=20)


@TRANSPORTS
def test_clients_come_are_distinguished_and_reach_each_other_through_the_server(
    office: Office, transport: Transport
) -> None:
    server = office.serve()
    clients = [office.connect(n, transport=transport) for n in range(1, 5)]
    for client in clients:
        wait_for_answer(client.host)
    office.host.sysctl("net.ipv4.ip_forward", 1)
    assert ping(clients[0].host, "10.99.0.5", n=5).n_received == 5
    transfers = [
        start_transfer(client.host, office.host, SERVER_INNER, n_bytes=5 * 10**7, port=6000 + n)
        for n, client in enumerate(clients)
    ]
    assert all(transfer.result(timeout=60).is_exact for transfer in transfers)
    between = start_transfer(clients[2].host, clients[3].host, "10.99.0.5", n_bytes=5 * 10**7)
    assert between.result(timeout=60).is_exact
    scrape = server.scrape()
    for n in range(1, 5):
        assert scrape.total("fastun_peer_info", peer=f"client{n}", transport=transport) == 1
        assert scrape.total("fastun_peer_receive_bytes_total", peer=f"client{n}") > 5 * 10**7


@TRANSPORTS
def test_a_removed_peer_is_cut_off_within_a_second_and_the_others_stay(
    office: Office, transport: Transport
) -> None:
    office.serve()
    gone, stays = (office.connect(n, transport=transport) for n in (1, 2))
    wait_for_answer(gone.host)
    wait_for_answer(stays.host)
    assert "the gateway of ft0 has applied the change" in office.peer("remove", "client1")
    time.sleep(1.0)
    assert not answers_ping(gone.host, SERVER_INNER)
    assert answers_ping(stays.host, SERVER_INNER)


@pytest.mark.parametrize("what", ["private_key", "preshared_key"])
def test_a_wrong_key_gets_no_answer_and_one_count(office: Office, what: str) -> None:
    server = office.serve()
    right = office.connect(1)
    wait_for_answer(right.host)
    file = add_peer(server, "client2", "10.0.2.1")
    lines = file.read_text().splitlines()
    wrong = keys.format_key(keys.generate_private())
    file.write_text("\n".join(f'{what} = "{wrong}"' if what in line else line for line in lines))
    intruder = office.connect(2, file)
    wait_until(lambda: intruder.host.listens(10055), "the intruder runs", timeout_s=15)
    # With a wrong pre-shared key it is the client that finds out first, by the response.
    counter, result = {
        "private_key": (server, "unknown_peer"),
        "preshared_key": (intruder, "bad_psk_or_key"),
    }[what]
    wait_until(
        lambda: counter.scrape().total("fastun_handshakes_total", result=result) >= 2,
        f"{result} is counted",
        timeout_s=20,
    )
    assert not answers_ping(intruder.host, SERVER_INNER)
    assert answers_ping(right.host, SERVER_INNER)
    assert server.scrape().total("fastun_peer_up", peer="client2") == 0


def rekeyed_tunnel(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> tuple[GatewayProcess, GatewayProcess]:
    monkeypatch.setattr(lab_tunnel, "FASTUN", COMPRESSED)
    pair = tunnel(transport=transport)
    return pair.client, pair.server


@pytest.mark.promise("New keys under load lose no packet")
@pytest.mark.parametrize(
    "n_rekeys", [pytest.param(10, id="10"), pytest.param(300, id="300", marks=pytest.mark.soak)]
)
@TRANSPORTS
def test_rekeying_under_load_loses_nothing(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch, transport: Transport, n_rekeys: int
) -> None:
    client, server = rekeyed_tunnel(tunnel, monkeypatch, transport)
    before = [gateway.scrape().dropped() for gateway in (client, server)]

    def rekeys() -> float:
        return client.scrape().total("fastun_rekeys_total")

    def goes_on() -> bool:
        return rekeys() < n_rekeys

    transfer = start_transfer(
        client.host, server.host, SERVER_INNER, n_bytes=10**8, goes_on=goes_on
    )
    assert transfer.result(timeout=60 + n_rekeys * 2).is_exact
    assert rekeys() >= n_rekeys
    assert [gateway.scrape().dropped() for gateway in (client, server)] == before
    assert client.scrape().total("fastun_reconnects_total") == 0


@pytest.mark.promise("The first packet after a session on UDP has lapsed waits for the next one")
def test_the_first_packet_after_a_long_silence_arrives(
    tunnel: StartTunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", SHORT_LIVED)
    client = tunnel(transport="udp").client
    for _ in range(3):
        wait_until(lambda: "no session" in client.log_tail(1)[0], "it has lapsed", timeout_s=15)
        time.sleep(1.2)  # longer than the device's queue holds packets
        assert ping(client.host, SERVER_INNER, n=1).n_received == 1


def test_a_peer_that_does_not_read_delays_no_other_and_its_drops_bear_its_name(
    office: Office,
) -> None:
    server = office.serve()
    frozen, busy = office.connect(1), office.connect(2)
    wait_for_answer(frozen.host)
    wait_for_answer(busy.host)
    # Its kernel goes on to acknowledge until the socket is full; nobody reads it.
    with held(worker_pid(frozen, "link-reader")):
        flood = office.host.spawn("ping", "-f", "-q", "-s", "60000", "-w", "15", "10.99.0.2")
        wait_until(
            lambda: server.scrape().total("fastun_peer_dropped_packets_total", peer="client1") > 0,
            "the frozen peer's queue is full",
            timeout_s=15,
        )
        transfer = start_transfer(office.host, busy.host, "10.99.0.3", n_bytes=10**8)
        assert transfer.result(timeout=30).is_exact
        assert ping(busy.host, SERVER_INNER, n=20).n_received == 20
        assert server.scrape().total("fastun_peer_dropped_packets_total", peer="client2") == 0
        flood.send_signal(signal.SIGINT)


def test_keys_stay_out_of_logs_and_command_lines(office: Office) -> None:
    server = office.serve()
    client = office.connect(1)
    wait_for_answer(client.host)
    file = office.tmp_path / "server" / "client1.toml"
    secrets = [
        line.split('"')[1] for line in file.read_text().splitlines() if "private" in line
    ] + [(office.tmp_path / "server" / "private.key").read_text().strip()]
    assert len(secrets) == 2
    for gateway in (server, client):
        log, pids = gateway.log_file.read_text(), gateway.host.pids()
        assert log
        assert gateway.process.pid in pids
        assert not any(secret in log for secret in secrets)
        for pid in pids:
            shown = b"".join(
                Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")
            )
            assert not any(secret.encode() in shown for secret in secrets)
