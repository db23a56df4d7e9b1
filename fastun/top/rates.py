"""What ``fastun top`` works out of the gateway's counts: rates, shares of time, the bottleneck.

A rate is the difference of two snapshots by the time between them. What limits the tunnel is judged
as the dashboard does (grafana/panels.py), over the snapshots of the last seconds: the stage that
had work and room for most of the time, or the most processor time; or the network, where the only
link was full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastun.native import DIRECTIONS, ROLES

if TYPE_CHECKING:
    from fastun.status.reply import Direction, PeerStatus, Stage, Status

# Long enough for a share of some ten snapshots, short enough to follow what is being tried out.
WINDOW_S = 5.0

# From this share of the time on, a stage is what limits the tunnel.
BOTTLENECK_FROM = 0.7

NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A status and when it was asked for, by the monotonic clock."""

    at_s: float
    status: Status


@dataclass(frozen=True, slots=True)
class StageRates:
    """One role over all lanes, a second; shares are of one processor or of the time."""

    role: str
    is_up: bool
    packets: float
    bits: float
    frames: float
    cpu_share: float
    busy_share: float
    blocked_share: float
    n_restarts: int


@dataclass(frozen=True, slots=True)
class PeerRates:
    """One peer: bits a second as the peer sees them come in here and go out."""

    peer: PeerStatus
    receive_bits: float
    transmit_bits: float


@dataclass(frozen=True, slots=True)
class DropRate:
    """Packets dropped for one reason since the start, and a second now."""

    role: str
    reason: str
    total: int
    packets: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """A role or NETWORK, and the share of ``window_s`` in which it held up the others."""

    name: str
    share: float
    window_s: float


class History:
    """The snapshots of the last seconds, at least two once rates are asked for."""

    def __init__(self, first: Snapshot) -> None:
        """Begin with a snapshot; rates need a second one."""
        self._snapshots = deque([first])
        self._shown = first

    @property
    def latest(self) -> Snapshot:
        """The newest snapshot."""
        return self._snapshots[-1]

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot in, and forget those that are too old; a rate needs two all the same."""
        self._snapshots.append(snapshot)
        while len(self._snapshots) > 2 and self._snapshots[0].at_s < snapshot.at_s - WINDOW_S:  # noqa: PLR2004
            self._snapshots.popleft()

    def mark_shown(self) -> None:
        """Have the rates begin anew: they are those since the last frame."""
        self._shown = self.latest

    # -- what a frame shows -------------------------------------------------------------------

    def stages(self) -> dict[str, StageRates]:
        """Return the roles in the order in which packets meet them."""
        return {role: self._stage(role) for role in ROLES}

    def drops(self) -> list[DropRate]:
        """Return the reasons with drops, those that grow first."""
        before = _drops(self._shown.status)
        rates = [
            DropRate(*key, total=total, packets=self._rate(total - before.get(key, 0)))
            for key, total in _drops(self.latest.status).items()
            if total
        ]
        return sorted(rates, key=lambda drop: (-drop.packets, -drop.total))

    def peers(self) -> list[PeerRates]:
        """Return the peers: connected first, then by their traffic, then by name."""
        before = {peer.name: peer for peer in self._shown.status.peers}
        rates = [self._peer(before.get(peer.name, peer), peer) for peer in self.latest.status.peers]
        return sorted(rates, key=_by_traffic)

    def bottleneck(self) -> Bottleneck | None:
        """Return what limits the tunnel; None where every stage keeps up."""
        stages = self.stages()
        shares = {
            role: max(stage.busy_share, self._cpu_share(role, self._snapshots[0]))
            for role, stage in stages.items()
        }
        shares[NETWORK] = stages["link-writer"].blocked_share
        name = max(shares, key=lambda name: shares[name])
        if shares[name] <= BOTTLENECK_FROM:
            return None
        return Bottleneck(name, min(1.0, shares[name]), self.latest.at_s - self._snapshots[0].at_s)

    # -- reckoning ----------------------------------------------------------------------------

    def _stage(self, role: str) -> StageRates:
        now, before = list(_of_role(self.latest, role)), list(_of_role(self._shown, role))

        def rate(field: str) -> float:
            return self._rate(_sum(now, field) - _sum(before, field))

        return StageRates(
            role=role,
            is_up=all(stage.up for stage in now),
            packets=rate("packets"),
            bits=8 * rate("bytes"),
            frames=rate("frames"),
            cpu_share=self._cpu_share(role, self._shown),
            busy_share=self._state_share(role, "busy"),
            blocked_share=self._state_share(role, "blocked"),
            n_restarts=int(_sum(now, "restarts")),
        )

    def _peer(self, before: PeerStatus, now: PeerStatus) -> PeerRates:
        return PeerRates(
            now,
            8 * self._rate(now.receive_bytes - before.receive_bytes),
            8 * self._rate(now.transmit_bytes - before.transmit_bytes),
        )

    def _rate(self, difference: float) -> float:
        # A peer that was changed is counted anew.
        return max(0.0, difference) / (self.latest.at_s - self._shown.at_s)

    def _cpu_share(self, role: str, since: Snapshot) -> float:
        cpu_s = _sum(_of_role(self.latest, role), "cpu_seconds")
        cpu_s -= _sum(_of_role(since, role), "cpu_seconds")
        return max(0.0, cpu_s) / (self.latest.at_s - since.at_s)

    def _state_share(self, role: str, state: str) -> float:
        states = [stage.state for snapshot in self._snapshots for stage in _of_role(snapshot, role)]
        return states.count(state) / len(states)  # type: ignore[arg-type]


def directions(snapshot: Snapshot, name: str) -> list[Direction]:
    """Return one direction of each lane."""
    return [getattr(lane, name) for lane in snapshot.status.lanes]


def _of_role(snapshot: Snapshot, role: str) -> Iterator[Stage]:
    for direction in directions(snapshot, DIRECTIONS[role]):
        yield direction.reader if direction.reader.role == role else direction.writer


def _sum(stages: Iterator[Stage] | list[Stage], field: str) -> float:
    total: float = sum(getattr(stage, field) for stage in stages)
    return total


def _drops(status: Status) -> dict[tuple[str, str], int]:
    totals: dict[tuple[str, str], int] = {}
    for lane in status.lanes:
        for direction in (lane.outbound, lane.inbound):
            for stage in (direction.reader, direction.writer):
                for reason, n_packets in stage.drops.items():
                    key = (stage.role, reason)
                    totals[key] = totals.get(key, 0) + n_packets
    return totals


def _by_traffic(rates: PeerRates) -> tuple[bool, float, str]:
    return (not rates.peer.up, -rates.receive_bits - rates.transmit_bits, rates.peer.name)
