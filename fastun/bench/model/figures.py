"""What ``fastun bench --model`` measured and computed. The fields are the keys of its JSON.

Names end in their unit. ``payload`` is that of TCP or UDP inside the tunnel.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fastun.bench.model.prediction import NOT_CROWDED, Crowding, Demand, Frame, StageCost

NsByStage = dict[str, float]

# Windows whose packets are in super-packets to nearly the same part do not differ in that.
_DIFFERENT_MIN = 0.2


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What went through in a while, as its sender's tun-reader took it in, and what was spent.

    ``received_bytes`` is payload, ``crossed_packets`` went from one lane of the sender to another.
    ``others_cores`` were busy with anything else. ``whole_share`` of the packets were in a
    super-packet when the link-reader of the receiver gave them out.
    """

    load: str
    seconds: float
    frames: int
    packets: int
    bytes: int
    received_bytes: int
    crossed_packets: int
    others_cores: float
    whole_share: float
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


class FlowCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What each stage costs, and which part of the cores that nothing else needs is busy.

    ``whole_share`` is that of the window which counts most.
    """

    sender: dict[str, StageCost]
    receiver: dict[str, StageCost]
    busy_share: float
    whole_share: float


class WireCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What each stage costs on a wire, with one flow and with many, and the windows that say so.

    ``crossing_ns`` is for a packet that goes from one lane of the sender to another; ``crowding``
    is what a second tunnel beside this one changes.
    """

    wire: str
    one_flow: FlowCosts
    many_flows: FlowCosts
    crowding: Crowding = NOT_CROWDED
    crossing_ns: float = 0.0
    frames: dict[str, Frame]
    windows: list[Window]

    def of(self, demand: Demand, whole_share: float | None = None) -> FlowCosts:
        """Return what the stages cost where so much is asked of a tunnel.

        With `whole_share`, where another part of the packets than was measured is in super-packets.
        """
        found = self.one_flow if demand == "one flow" else self.many_flows
        part = self.part_like_one(whole_share)
        return found if part is None else _between(self.one_flow, self.many_flows, part)

    def part_like_one(self, whole_share: float | None) -> float | None:
        """Return how near packets are to those of one flow rather than of many, from 0 to 1.

        None: both have as many in super-packets, so that says nothing.
        """
        differ = self.one_flow.whole_share - self.many_flows.whole_share
        if whole_share is None or differ < _DIFFERENT_MIN:
            return None
        return min(1.0, max(0.0, (whole_share - self.many_flows.whole_share) / differ))


def _between(one: FlowCosts, many: FlowCosts, part: float) -> FlowCosts:
    def mixed(first: float, second: float) -> float:
        return part * first + (1 - part) * second

    def stages(
        first: Mapping[str, StageCost], second: Mapping[str, StageCost]
    ) -> dict[str, StageCost]:
        return {
            stage: StageCost(
                frame_ns=mixed(first[stage].frame_ns, second[stage].frame_ns),
                packet_ns=mixed(first[stage].packet_ns, second[stage].packet_ns),
                byte_ns=mixed(first[stage].byte_ns, second[stage].byte_ns),
            )
            for stage in first
        }

    return FlowCosts(
        sender=stages(one.sender, many.sender),
        receiver=stages(one.receiver, many.receiver),
        busy_share=mixed(one.busy_share, many.busy_share),
        whole_share=mixed(one.whole_share, many.whole_share),
    )


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction: each end has a machine of so many cores, with so many lanes and such a NIC.

    ``of_linear`` is the part of what the cores and the NIC alone would allow; ``busy_cores`` are
    those of the busier end.
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
    busy_cores: float


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
