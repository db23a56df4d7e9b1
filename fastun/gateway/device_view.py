"""The view of the device and of the kill switch: what this host has of a tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.gateway.view import DeviceView, DnsView
from fastun.host.condition import REPAIRED

if TYPE_CHECKING:
    from fastun.config.vocabulary import KillSwitch as KillSwitchMode
    from fastun.host.device import Device
    from fastun.host.dns.state import DnsState
    from fastun.host.firewall.kill_switch import KillSwitch


def fault(device: Device, kill_switch: KillSwitch | None) -> str:
    """Return why the host is not as the tunnel needs it; empty where it is. Any thread."""
    return device.condition.fault() or ("" if kill_switch is None else kill_switch.fault)


def read(device: Device, kill_switch: KillSwitch | None) -> DeviceView:
    """Return the view. Any thread."""
    condition, repairs = device.condition, dict(device.condition.repairs)
    if kill_switch is not None:
        repairs[REPAIRED["kill switch"]] += kill_switch.n_restored
    return DeviceView(
        device.name,
        device.mtu,
        device.statistics(),
        is_up=not condition.is_down,
        fault=fault(device, kill_switch),
        repairs=repairs,
        forward=device.wanted.forward,
        obstacles=condition.forwarding,
        kill_switch=_mode(kill_switch),
        dns=_dns(device.name_servers.state),
    )


def _dns(state: DnsState) -> DnsView | None:
    if not state.servers:
        return None
    return DnsView(state.servers, state.domains, state.words, state.is_checked, state.fault)


def _mode(kill_switch: KillSwitch | None) -> KillSwitchMode:
    if kill_switch is None or not kill_switch.is_on:
        return "off"
    return "lan" if kill_switch.has_lan else "on"
