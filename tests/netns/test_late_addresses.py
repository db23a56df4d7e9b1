"""Addresses that a server is to listen on and that are not there yet, or not for use."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, GatewayProcess, Transport, endpoints
from tests.support.serve_and_dial import dial, log_of, serve

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

FIRST, LATE, LATE_IPV6 = "192.0.2.1", "192.0.2.9", "fd01::9"
BACK_S = 10.0


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, [f"{FIRST}/24", "fd01::1/64"], ["192.0.2.2/24", "fd01::2/64"])
    return server, client


def serving(server: Host, tmp_path: Path, *urls: str) -> GatewayProcess:
    gateway = serve(server, tmp_path, *urls)
    wait_until(lambda: "up  " in log_of(gateway), "up", timeout_s=15)
    return gateway


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_listen_address_that_comes_three_seconds_late_is_waited_for(
    hosts: tuple[Host, Host], tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    there = serving(server, tmp_path, *endpoints(LATE, transport))
    where = f"listen.{transport}: {LATE}"
    assert f"{where} is not on any interface yet; waiting for it" in log_of(there)
    waiting = (503, f"waiting for listen.{transport} {LATE}\n")
    wait_until(lambda: there.get("/readyz") == waiting, "all but the address", timeout_s=15)
    assert there.get("/healthz")[0] == 200
    tunnel = dial(there, client, tmp_path, LATE, transport)
    time.sleep(3)
    tunnel.server.check_alive()
    server.ip("address", "add", f"{LATE}/24", "dev", "to-client")
    wait_until(lambda: f"{where} is on an interface now" in log_of(there), "the line")
    wait_until(lambda: there.get("/readyz")[0] == 200, "ready")
    tunnel.wait_up(BACK_S)
    server.ip("address", "del", f"{LATE}/24", "dev", "to-client")
    wait_until(lambda: there.get("/readyz")[0] == 503, "not ready without it")
    gone = f"{where} is not on any interface any more; waiting for it"
    wait_until(lambda: gone in log_of(there), "a line")


@pytest.mark.parametrize("transport", ["udp", pytest.param("tcp", marks=pytest.mark.soak)])
def test_a_tentative_listen_address_is_waited_for(
    hosts: tuple[Host, Host], tmp_path: Path, transport: Transport
) -> None:
    server, client = hosts
    server.sysctl("net.ipv6.conf.to-client.accept_dad", 1)
    server.sysctl("net.ipv6.conf.to-client.dad_transmits", 1)
    server.sysctl("net.ipv6.neigh.to-client.retrans_time_ms", 6000)  # so long it is tentative
    server.ip("address", "add", f"{LATE_IPV6}/64", "dev", "to-client")
    there = serving(server, tmp_path, *endpoints(LATE_IPV6, transport))
    assert "tentative" in server.ip("address", "show", "dev", "to-client")
    assert f"listen.{transport}: {LATE_IPV6} is not on any interface yet" in log_of(there)
    tunnel = dial(there, client, tmp_path, LATE_IPV6, transport)
    wait_until(lambda: there.get("/readyz")[0] == 200, "ready", timeout_s=15)
    tunnel.wait_up(BACK_S)


def test_while_one_of_two_listen_addresses_is_absent_the_other_serves(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, client = hosts
    urls = [url for each in (LATE, FIRST) for url in endpoints(each, "both")]
    there = serving(server, tmp_path, *urls)
    dial(there, client, tmp_path, FIRST, "both").wait_up()
    assert there.get("/readyz") == (503, f"waiting for listen.udp {LATE}, listen.tcp {LATE}\n")


def test_a_metrics_address_that_comes_late_is_waited_for(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    server, _ = hosts
    log = tmp_path / "serve.log"
    command = [*FASTUN, "serve", "--metrics", f"{LATE}:10055"]
    with log.open("wb") as stderr:
        server.spawn(*command, "--state", str(tmp_path), "--run-dir", str(tmp_path), stderr=stderr)
    waiting = f"metrics.listen: {LATE} is not on any interface yet; waiting for it"
    wait_until(lambda: "up  " in log.read_text(), "up", timeout_s=15)
    assert waiting in log.read_text()
    server.ip("address", "add", f"{LATE}/24", "dev", "to-client")
    with server.socket() as scraper:
        scraper.settimeout(5)
        scraper.connect((LATE, 10055))
        scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert scraper.recv(100).startswith(b"HTTP/1.0 200")
    wait_until(lambda: f"metrics.listen: {LATE} is on an interface now" in log.read_text(), "line")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_in_use_is_said_instead_of_up(
    hosts: tuple[Host, Host], tmp_path: Path, transport: Transport
) -> None:
    server, _ = hosts
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with server.socket(socket.AF_INET, kind) as other:
        (url,) = endpoints(FIRST, transport)
        other.bind((FIRST, int(url.rpartition(":")[2])))
        if transport == "tcp":
            other.listen()
        there = serve(server, tmp_path, url)
        assert there.process.wait(15) == 1
    said = log_of(there)
    assert f"fastun: --listen {url}: the port is in use" in said
    assert "up  " not in said
