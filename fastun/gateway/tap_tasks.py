"""What a gateway watches for a TAP device: its bridge's MTU, and which addresses are the host's."""

from __future__ import annotations

from collections.abc import Coroutine

from fastun.host.bridge_mtu import BridgeMtu
from fastun.host.own_macs import OwnMacs
from fastun.host.process.gateway_device import GatewayDevice
from fastun.lane.lane import Lane
from fastun.native import Mode


def tap_tasks(device: GatewayDevice, lane: Lane) -> tuple[Coroutine[None, None, None], ...]:
    """Return what runs beside the rest; nothing for a TUN device."""
    if device.mode is not Mode.TAP:
        return ()
    tasks = [BridgeMtu(device.index).run()]
    if lane.switch is not None:
        tasks.append(OwnMacs(device.index, lane.switch.set_own).run())
    return tuple(tasks)
