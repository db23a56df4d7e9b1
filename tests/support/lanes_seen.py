"""What is seen of gateways of several lanes: what was carried, what is missing, who works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from tests.support.lanes_load import status_of

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess


def link_of(gateway: GatewayProcess, name: str) -> float:
    """When the peer's link began."""
    (peer,) = (each for each in status_of(gateway)["peers"] if each["name"] == name)
    return float(peer["since_unix_seconds"])


def handshakes_of(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_handshakes_total", result="ok")


def restarts_of(gateway: GatewayProcess, lane: int) -> float:
    return gateway.scrape().total("fastun_worker_restarts_total", lane=str(lane))


def packets_by_lane(gateway: GatewayProcess, role: str, n_lanes: int) -> list[float]:
    scrape = gateway.scrape()
    return [
        scrape.total("fastun_packets_total", role=role, lane=str(lane)) for lane in range(n_lanes)
    ]


def missing_packets(gateway: GatewayProcess) -> list[int]:
    """By lane and direction: taken in, less delivered, dropped, and crossed to other lanes."""
    missing = []
    for lane in status_of(gateway)["lanes"]:
        for direction in (lane["outbound"], lane["inbound"]):
            reader, writer = direction["reader"], direction["writer"]
            n_dropped = sum(reader["drops"].values()) + sum(writer["drops"].values())
            n_crossed = lane["crossed_packets"] if direction is lane["outbound"] else 0
            missing.append(reader["packets"] - writer["packets"] - n_dropped - n_crossed)
    return missing


def assert_each_lane_adds_up(gateway: GatewayProcess) -> None:
    try:
        wait_until(lambda: not any(missing_packets(gateway)), "it adds up")
    finally:
        print(missing_packets(gateway))  # noqa: T201


def n_connections(client: GatewayProcess) -> int:
    words = ("-Htn", "state", "established", "dport", "=", ":55555")
    return len(client.host.run("ss", *words).stdout.splitlines())
