"""What the metrics of a tunnel at rest say: its drops, and that packets in are packets out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import LabError, wait_until
from fastun.lab.tunnel import Scrape
from fastun.native import DROPS

if TYPE_CHECKING:
    from fastun.lab.tunnel import GatewayProcess

READER_AND_WRITER = (("tun-reader", "link-writer"), ("link-reader", "tun-writer"))


def quiesced(gateway: GatewayProcess) -> Scrape:
    """Scrape when nothing moves any more: two equal ones in a row, and empty rings."""
    before = Scrape()

    def rests() -> bool:
        nonlocal before
        last, before = before, gateway.scrape()
        moving = ("fastun_packets_total", "fastun_dropped_packets_total")
        return before.total("fastun_ring_used_bytes") == 0 and all(
            last.get(name) == value for name, value in before.items() if name.startswith(moving)
        )

    wait_until(rests, "the tunnel quiesces", interval_s=0.3)
    return before


def drops(scrape: Scrape) -> dict[tuple[str, str], float]:
    """The reasons that are not 0, with their counts."""
    counts = {
        (drop.role, drop.reason): scrape.total(
            "fastun_dropped_packets_total", role=drop.role, reason=drop.reason
        )
        for drop in DROPS
    }
    return {key: count for key, count in counts.items() if count}


def assert_adds_up(scrape: Scrape) -> None:
    """In each direction: packets in = packets out + drops, and on TAP + those for other peers."""
    for reader, writer in READER_AND_WRITER:
        taken_in = scrape.total("fastun_packets_total", role=reader)
        delivered = scrape.total("fastun_packets_total", role=writer)
        dropped = sum(n for (role, _), n in drops(scrape).items() if role in (reader, writer))
        if reader == "link-reader":
            delivered += scrape.total("fastun_switched_packets_total")
        assert taken_in == delivered + dropped, f"{reader} to {writer}: {drops(scrape)}"


def label(sample: str, name: str) -> str:
    return sample.partition(f'{name}="')[2].partition('"')[0]


def responds(gateway: GatewayProcess) -> bool:
    gateway.check_alive()
    try:
        return gateway.get("/healthz")[0] == 200
    except LabError:
        return False


def status_of(gateway: GatewayProcess, path: str) -> int:
    return gateway.get(path)[0]
