"""A server that is restarted, and clients that say nothing: it finds them again by itself."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import endpoints, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess, Transport, Tunnel
    from tests.conftest import StartTunnel

FOUND_WITHIN_S = 5.0


def restart(pair: Tunnel, directory: Path, transport: Transport) -> GatewayProcess:
    listen = [word for url in endpoints("10.0.0.1", transport) for word in ("--listen", url)]
    server = pair.server
    wait_until(lambda: "ft0" not in server.host.devices(), "the old device is gone")
    return start_gateway(
        *(server.host, directory, "serve", *listen), wire="wireguard", addresses=server.addresses
    )


@pytest.mark.promise(
    "Idle clients are reached within seconds after a restart of the server, or its SIGKILL"
)
@pytest.mark.parametrize("transport", ["udp", pytest.param("both", marks=pytest.mark.soak)])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_idle_clients_are_reached_soon_after_a_restart_of_the_server(
    tunnel: StartTunnel, tmp_path: Path, transport: Transport, how: signal.Signals
) -> None:
    pair = tunnel(transport=transport)
    home = pair.server.log_file.parent
    wait_until(lambda: bool(list(home.glob("endpoints-*"))), "it is written", timeout_s=5)
    time.sleep(1)
    pair.server.stop(how)
    server = restart(pair, tmp_path, transport)
    try:
        wait_until(lambda: server.host.listens(51820, udp=True), "it listens", timeout_s=15)
        begun_s = time.monotonic()
        wait_until(
            lambda: answers_ping(server.host, pair.client.inner_address),
            "the client answers",
            timeout_s=FOUND_WITHIN_S,
        )
        print(f"reached {time.monotonic() - begun_s:.2f} s after it listens")  # noqa: T201
    finally:
        server.stop()
    if how is signal.SIGKILL:
        said = server.log_tail(200)
        assert any("calling the clients that were here before" in line for line in said)
    else:
        assert any("said goodbye" in line for line in pair.client.log_tail(200))
