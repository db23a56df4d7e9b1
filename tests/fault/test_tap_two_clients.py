"""A TAP device carries one client: the first to come keeps it, and the second gets a warning.

server 10.0.0.1, 10.0.1.1   ===veth===   first  10.0.0.2
                            ===veth===   second 10.0.1.2
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import SERVER_ADDRESSES, add_peer, endpoints, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport

WATCHED_S = 10.0


def warnings(gateway: GatewayProcess, text: str) -> list[str]:
    return [line for line in gateway.log_tail(500) if text in line and " warning " in line]


# The names are in either order, since peers have their slots by name.
@pytest.mark.parametrize("names", [("ant", "bee"), ("bee", "ant")], ids="-".join)
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_first_keeps_the_device_and_both_sides_say_why_the_second_has_to_wait(
    lab: Lab, tmp_path: Path, transport: Transport, names: tuple[str, str]
) -> None:
    server, *hosts = (lab.host(name) for name in ("server", *names))
    for n, host in enumerate(hosts):
        lab.wire(server, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
    listen = [word for url in endpoints("0.0.0.0", transport) for word in ("--listen", url)]  # noqa: S104 (in a namespace)
    serving = start_gateway(
        *(server, tmp_path, "serve", *listen),
        mode="tap",
        wire="wireguard",
        addresses=SERVER_ADDRESSES,
    )
    files = [str(add_peer(serving, name, f"10.0.{n}.1", transport)) for n, name in enumerate(names)]
    first = start_gateway(hosts[0], tmp_path, "connect", files[0], mode="tap", wire="wireguard")
    wait_until(lambda: answers_ping(hosts[0], "10.99.0.1"), "the first has it", timeout_s=15)
    second = start_gateway(hosts[1], tmp_path, "connect", files[1], mode="tap", wire="wireguard")
    wait_until(lambda: bool(warnings(second, "TAP device")), "the second says so", timeout_s=15)
    time.sleep(4)
    assert len(warnings(serving, "TAP device takes one peer")) == 1
    assert len(warnings(second, "TAP device")) <= 8
    assert serving.scrape().total("fastun_reconnects_total") == 0
    assert second.scrape().total("fastun_peer_up") == 0
    assert answers_ping(hosts[0], "10.99.0.1")
    first.stop()
    wait_until(lambda: answers_ping(hosts[1], "10.99.0.1"), "the second has it", timeout_s=15)
