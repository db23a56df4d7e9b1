"""What ``fastun bench --model`` measured and computed. The fields are the keys of its JSON.

Names end in their unit. ``payload`` is that of TCP or UDP inside the tunnel.
"""

from __future__ import annotations

import msgspec

from fastun.bench.model.prediction import Demand, Frame, StageCost

NsByStage = dict[str, float]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What went through in a while, as its sender's tun-reader took it in, and what was spent.

    ``received_bytes`` is payload, ``crossed_packets`` went from one lane of the sender to another.
    ``others_cores`` were busy with anything else.
    """

    load: str
    seconds: float
    frames: int
    packets: int
    bytes: int
    received_bytes: int
    crossed_packets: int
    others_cores: float
    sender_ns: NsByStage
    receiver_ns: NsByStage

    @property
    def bits_per_second(self) -> float:
        """The goodput."""
        return 8 * self.received_bytes / self.seconds

    def busy_share(self, n_cores: int) -> float:
        """Return the part of the cores that was busy with this, of those that others left."""
        left = n_cores - self.others_cores
        busy = self.cpu_ns / 1e9 / self.seconds
        return min(1.0, busy / left) if left > busy else 1.0

    @property
    def cpu_ns(self) -> float:
        """What all stages spent."""
        return sum(self.sender_ns.values()) + sum(self.receiver_ns.values())


class WireCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What each stage costs on a wire, and the windows that say so.

    ``crossing_ns`` is for a packet that goes from one lane of the sender to another; of the cores
    that nothing else needs, one stream keeps ``busy_share`` busy.
    """

    wire: str
    sender: dict[str, StageCost]
    receiver: dict[str, StageCost]
    crossing_ns: float = 0.0
    busy_share: float = 1.0
    frames: dict[str, Frame]
    windows: list[Window]


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction: each end has a machine of so many cores, with so many lanes and such a NIC.

    ``of_linear`` is the part of what the cores and the NIC alone would allow.
    """

    wire: str
    frame: str
    demand: Demand
    cores: float
    lanes: int
    nic_gbit_per_second: float
    frames_per_second: float
    bits_per_second: float
    limit: str
    of_linear: float


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`fastun bench --model`. ``cores`` are those on which it was measured.

    ``nic_gbit_per_second`` and ``lanes`` are those of the machines that it predicts for; null lanes
    are as many as ``auto`` gives each of them.
    """

    version: str
    kernel: str
    cores: int
    congestion_control: str
    seconds: float
    nic_gbit_per_second: float
    lanes: int | None
    wires: list[WireCosts]
    assumptions: list[str]
    predictions: list[Predicted]
