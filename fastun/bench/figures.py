"""What ``fastun bench`` measured. The fields are the keys of ``fastun bench --json``, and stay.

Names end in their unit; bits are those of TCP's payload inside the tunnel, as its receiver saw
them. ``cpu_us_per_mebibyte`` is processor time of a gateway's workers by role.
"""

from __future__ import annotations

import msgspec

CpuByRole = dict[str, float]


class OneWay(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a tunnel, and the bare veth pair measured before and after."""

    bits_per_second: float
    veth_bits_per_second: float
    sender_cpu_us_per_mebibyte: CpuByRole
    receiver_cpu_us_per_mebibyte: CpuByRole

    @property
    def ratio(self) -> float:
        """Of the tunnel to the veth pair."""
        veth = self.veth_bits_per_second
        return self.bits_per_second / veth if veth else 0.0


class WireFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One wire over one transport."""

    wire: str
    transport: str
    ping_ms: float
    to_server: OneWay
    to_client: OneWay


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`fastun bench`: what this machine does between two hosts of its own.

    ``load_average`` is that of the minute before.
    """

    version: str
    kernel: str
    cores: int
    congestion_control: str
    seconds: float
    load_average: float = 0.0
    veth_ping_ms: float
    wires: list[WireFigures]


class LiveOneWay(msgspec.Struct, frozen=True, kw_only=True):
    """One direction through a live tunnel; the CPU is that of the gateway on this host."""

    bits_per_second: float
    cpu_us_per_mebibyte: CpuByRole


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """`fastun bench --peer`. ``sending`` is null where only the other direction was asked for."""

    version: str
    interface: str
    wire: str
    peer: str
    address: str
    transport: str | None
    seconds: float
    round_trip_min_ms: float
    round_trip_median_ms: float
    round_trip_max_ms: float
    sending: LiveOneWay | None
    receiving: LiveOneWay
