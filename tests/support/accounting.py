"""Whether every packet that a gateway took in is delivered or dropped with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.lab.tunnel import GatewayProcess

STAGES = {"outbound": ("tun-reader", "link-writer"), "inbound": ("link-reader", "tun-writer")}
CROSSED = "fastun_crossed_packets_total"


def _family(sample: str) -> str:
    return sample.partition("{")[0]


def missing_packets(gateway: GatewayProcess) -> dict[str, float]:
    """By direction: taken in, less delivered, dropped, and sent to other peers or lanes."""
    scrape = gateway.scrape()
    packets = {
        role: scrape.total("fastun_packets_total", role=role)
        for stages in STAGES.values()
        for role in stages
    }
    switched = {
        # An older release has one lane.
        "outbound": scrape.total(CROSSED) if CROSSED in {*map(_family, scrape)} else 0.0,
        "inbound": scrape.total("fastun_switched_packets_total"),
    }
    return {
        direction: packets[reader]
        - packets[writer]
        - scrape.total("fastun_dropped_packets_total", direction=direction)
        - switched[direction]
        for direction, (reader, writer) in STAGES.items()
    }


def assert_adds_up(gateways: Iterable[GatewayProcess]) -> None:
    """Wait for what is under way, and for workers that have to start again."""
    for gateway in gateways:
        try:
            wait_until(lambda g=gateway: not any(missing_packets(g).values()), "it adds up")
        finally:
            dropped = gateway.scrape().total("fastun_dropped_packets_total", reason="worker_died")
            print(f"{gateway.role}: missing {missing_packets(gateway)}, died {dropped}")  # noqa: T201
