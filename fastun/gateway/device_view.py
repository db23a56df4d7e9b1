"""The view of the device and of the kill switch: what this host has of a tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.gateway.view import DeviceView, DnsView

if TYPE_CHECKING:
    from fastun.config.forward import Forward
    from fastun.config.vocabulary import KillSwitch as KillSwitchMode
    from fastun.host.dns.state import DnsState
    from fastun.host.process.gateway_device import GatewayDevice
    from fastun.host.process.messages import KillSwitchNow


def read(device: GatewayDevice, forward: Forward | None) -> DeviceView:
    """Return the view. Any thread."""
    now = device.now
    return DeviceView(
        device.name,
        device.mtu,
        device.statistics(),
        is_up=now.is_up,
        fault=device.fault,
        repairs=now.repairs,
        forward=forward,
        obstacles=now.obstacles,
        kill_switch=_mode(now.kill_switch),
        host_pid=device.host_pid,
        dns=_dns(device.name_servers.state),
    )


def _dns(state: DnsState) -> DnsView | None:
    if not state.servers:
        return None
    return DnsView(state.servers, state.domains, state.words, state.is_checked, state.fault)


def _mode(kill_switch: KillSwitchNow) -> KillSwitchMode:
    if not kill_switch.is_on:
        return "off"
    return "lan" if kill_switch.has_lan else "on"
