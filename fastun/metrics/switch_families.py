"""The metric families of a TAP device with many peers."""

from __future__ import annotations

from fastun.metrics import readings
from fastun.metrics.family import Family

SWITCH_FAMILIES: tuple[Family, ...] = (
    Family(
        "fastun_peer_mac_addresses",
        "gauge",
        ("peer",),
        "Ethernet addresses seen behind the peer in the last five minutes, where fastun switches "
        "(mode tap). It has room for 1,024 a peer.",
        readings.mac_addresses,
    ),
    Family(
        "fastun_switched_packets_total",
        "counter",
        (),
        "Packets that came from one peer of a TAP device for others. The link-reader took them in; "
        "the tun-reader takes them in again, a copy for each peer.",
        readings.of_switch("switched"),
    ),
    Family(
        "fastun_mac_moves_total",
        "counter",
        (),
        "How often an Ethernet address was seen behind another peer than before. Many: a loop, or "
        "two hosts with one address.",
        readings.of_switch("mac_moves"),
    ),
)
