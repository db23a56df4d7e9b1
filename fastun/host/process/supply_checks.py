"""Which sockets a gateway may ask for, by the settings that the host process has read itself."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from fastun.config.settings import ConnectSettings, ServeSettings
from fastun.host.process.channel import Unasked
from fastun.host.sockets.address import EndpointAddress

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.process.supply_messages import MakeDatagrams, MakeListener


def listener(asked: MakeListener, known: Iterable[Settings]) -> EndpointAddress:
    """Return where it is to be. Raises Unasked."""
    at = _address(asked.host, asked.port, asked.zone)
    for settings in known:
        if asked.purpose == "metrics":
            if settings.metrics is not None and _is_meant(at, *settings.metrics):
                return at
        elif isinstance(settings, ServeSettings) and _is_listened_on(at, "tcp", settings):
            return at
    raise Unasked(f"a listener on TCP port {at.port} of {at.host}, which is not in the settings")


def datagrams(asked: MakeDatagrams, known: Iterable[Settings]) -> EndpointAddress:
    """Return where it is to be. Raises Unasked."""
    at = _address(asked.host, asked.port, asked.zone)
    for settings in known:
        if isinstance(settings, ServeSettings) and _is_listened_on(at, "udp", settings):
            return at
        if isinstance(settings, ConnectSettings) and _is_dialled_by(at, settings):
            return at
    raise Unasked(f"UDP port {at.port} of {at.host}, which is not in the settings")


def _is_listened_on(at: EndpointAddress, scheme: str, settings: ServeSettings) -> bool:
    return any(
        each.scheme == scheme and _is_meant(at, each.host, each.port) for each in settings.listen
    )


def _is_dialled_by(at: EndpointAddress, settings: ConnectSettings) -> bool:
    has_udp = any(each.scheme == "udp" for each in settings.endpoints)
    return has_udp and at.host.is_unspecified and at.port == (settings.udp_port or 0)


def _is_meant(at: EndpointAddress, host: str, port: int) -> bool:
    """Return whether these are a host and a port. A name may be any address: DNS says which."""
    if at.port != port:
        return False
    try:
        meant = ip_address(host.partition("%")[0])
    except ValueError:
        return True
    # [::] is 0.0.0.0 on a host without IPv6.
    return at.host == meant or (at.host.is_unspecified and meant.is_unspecified)


def _address(host: str, port: int, zone: int) -> EndpointAddress:
    try:
        return EndpointAddress(ip_address(host), port, zone)
    except ValueError:
        raise Unasked(f"a socket of {host!r:.64}, which is not an address") from None
