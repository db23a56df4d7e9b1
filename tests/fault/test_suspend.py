"""A host that is suspended, and a network that is gone for long: the tunnel is back soon after.

server 10.0.0.1, 10.0.1.1   ===veth===   tcp 10.0.0.2
                            ===veth===   udp 10.0.1.2
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import SERVER_ADDRESSES, add_peer, endpoints, start_gateway

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures

SERVER_INNER = "10.99.0.1"
SUSPENDED_S = 300.0
GONE_S = 600.0
BACK_WITHIN_S = 5.0


class Office:
    """A server, and a client for each transport, which say something now and then."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.host = lab.host("server")
        listen = [word for url in endpoints("0.0.0.0", "both") for word in ("--listen", url)]  # noqa: S104 (in a namespace)
        self.server = start_gateway(
            *(self.host, directory, "serve", *listen),
            wire="wireguard",
            addresses=SERVER_ADDRESSES,
        )
        self.clients: list[GatewayProcess] = []
        for n, transport in enumerate(("tcp", "udp")):
            host = lab.host(transport)
            lab.wire(self.host, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
            file = str(add_peer(self.server, transport, f"10.0.{n}.1", transport))  # type: ignore[arg-type]
            self.clients.append(start_gateway(host, directory, "connect", file, wire="wireguard"))
        self.assert_back(15)
        for client in self.clients:
            client.host.spawn("ping", "-i", "0.5", SERVER_INNER)

    def assert_back(self, within_s: float) -> float:
        """Wait until the server answers all clients; return how long the last one took."""
        begun_s = time.monotonic()
        for client in self.clients:
            wait_until(
                lambda host=client.host: answers_ping(host, SERVER_INNER),
                f"the tunnel of {client.host.name}",
                timeout_s=max(0.1, begun_s + within_s - time.monotonic()),
            )
            back_s = time.monotonic() - begun_s
            print(f"{client.host.name}: back after {back_s:.2f} s")  # noqa: T201
        return time.monotonic() - begun_s


def of_fastun(hosts: Iterable[Host]) -> list[int]:
    """Return the processes of the gateways there."""
    return [
        pid
        for host in hosts
        for pid in host.pids()
        if b"fastun" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.promise(
    "After five minutes with all processes stopped (suspend) a tunnel is back within 5 s"
)
@pytest.mark.soak
@pytest.mark.timeout(SUSPENDED_S + 120)
@pytest.mark.parametrize("which", ["clients", "server"])
def test_a_tunnel_is_back_soon_after_a_suspended_host_goes_on(
    lab: Lab, tmp_path: Path, which: str, figures: Figures
) -> None:
    office = Office(lab, tmp_path)
    hosts = [office.host] if which == "server" else [client.host for client in office.clients]
    pids = of_fastun(hosts)
    assert len(pids) >= 5 * len(hosts)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(SUSPENDED_S)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    figures.worst("back after", office.assert_back(BACK_WITHIN_S), "s")
    time.sleep(5)  # what a hasty guard would do comes late
    assert sorted(of_fastun(hosts)) == sorted(pids)
    office.assert_back(BACK_WITHIN_S)


@pytest.mark.promise("After ten minutes without a network a tunnel is back within 15 s")
@pytest.mark.soak
@pytest.mark.timeout(GONE_S + 120)
def test_a_tunnel_is_back_soon_after_a_network_that_was_gone_for_ten_minutes(
    lab: Lab, tmp_path: Path, figures: Figures
) -> None:
    office = Office(lab, tmp_path)
    for client in office.clients:
        client.host.ip("link", "set", "to-server", "down")
    time.sleep(GONE_S)
    assert not any(answers_ping(client.host, SERVER_INNER) for client in office.clients)
    for client in office.clients:
        client.host.ip("link", "set", "to-server", "up")
    figures.worst("back after", office.assert_back(15), "s")
