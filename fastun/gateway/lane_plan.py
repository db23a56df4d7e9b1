"""What the workers are to do, by the settings and by what the device can."""

from __future__ import annotations

from fastun.config.settings import Settings
from fastun.host.device import Device
from fastun.lane.lane import LanePlan
from fastun.native import Wire


def plan_of(settings: Settings, device: Device) -> LanePlan:
    """Return the plan of the lane."""
    return LanePlan(
        device.fd,
        Wire[settings.wire.upper()],
        device.mode,
        holds=settings.role == "connect" and len(settings.peers) <= 1,
        coalesce=device.offload_max,
        switches=_is_switch(settings),
        mss_mtu=settings.mtu if settings.mss_clamp else 0,
    )


def _is_switch(settings: Settings) -> bool:
    """Return whether frames go from peer to peer: what dials one peer has nothing to switch."""
    has_many = settings.role == "serve" or len(settings.peers) > 1
    return settings.mode == "tap" and settings.wire == "wireguard" and has_many
