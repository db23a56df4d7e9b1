"""The way to an address as this host has it: interface, gateway, source, MTU, and other tunnels."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.doctor.finding import Finding, finding
from fastun.host.netlink.rtnetlink import RTA_OIF, RouteQuestions, number

if TYPE_CHECKING:
    from fastun.host.sockets.address import EndpointAddress

SYS_NET = Path("/sys/class/net")

_RTA_GATEWAY = 5  # linux/rtnetlink.h
# linux/if_arp.h: PPP, IP in IP, IPv6 in IPv6, SIT, GRE of both, and NONE, which TUN devices and
# WireGuard have.
_TUNNEL_KINDS = {512, 768, 769, 776, 778, 823, 65534}

_IP_MTU, _IP_MTU_DISCOVER, _IPV6_MTU, _IPV6_MTU_DISCOVER = 14, 10, 24, 23  # linux/in.h, in6.h
_PMTUDISC_DO = 2
# IPv6's least MTU, and what fastun puts around a packet of that size over IPv6.
_MTU_MIN = 1280 + 80
_PROBE_ANSWER_S = 0.3
_N_PROBES = 2


@dataclass(frozen=True, slots=True)
class Way:
    """A route that the kernel gives. ``gateway`` and ``source`` are empty where there is none."""

    interface: str
    gateway: str
    source: str
    is_tunnel: bool


def sockaddr(address: EndpointAddress) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the address as sockets take it."""
    if isinstance(address.host, IPv4Address):
        return str(address.host), address.port
    return str(address.host), address.port, 0, address.zone


def family_of(address: EndpointAddress) -> socket.AddressFamily:
    """Return the address family of sockets for it."""
    return socket.AF_INET if isinstance(address.host, IPv4Address) else socket.AF_INET6


def mark(opened: socket.socket, fwmark: int) -> None:
    """Set the mark as the gateway would, as far as this user may."""
    if fwmark:
        with contextlib.suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, fwmark)


def look_up(address: EndpointAddress, protocol: int, fwmark: int) -> Way:
    """Return the way of our packets to the address. OSError: there is none."""
    with RouteQuestions(fwmark) as questions:
        route = questions.ask(
            address.host, interface=address.zone, protocol=protocol, port=address.port
        )
    name = _name_of(number(route.attributes.get(RTA_OIF, b"")))
    gateway = route.attributes.get(_RTA_GATEWAY, b"")
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        mark(probe, fwmark)
        probe.connect(sockaddr(address))  # sends nothing
        source = probe.getsockname()[0]
    return Way(name, str(ip_address(gateway)) if gateway else "", source, _is_tunnel(name))


def check(address: EndpointAddress, protocol: int, fwmark: int, own_interface: str) -> Finding:
    """Say which way our packets take; ``own_interface`` is the tunnel's, of a running gateway."""
    try:
        way = look_up(address, protocol, fwmark)
    except OSError as error:
        message = f"{address.host}: this host has no route ({error.strerror or error})"
        return finding("FAIL", message, "check its addresses and its default route: 'ip route'")
    by = f"by {way.interface}" + (f" and gateway {way.gateway}" if way.gateway else "")
    message = f"{address.host}: {by}, from {way.source}"
    if way.interface == own_interface:
        # The gateway's own packets have a mark that leads past the tunnel (routing_rules).
        return finding("ok", f"{message}: the tunnel, but not for the gateway's own packets")
    if way.is_tunnel:
        fix = f"if that is not wanted, add a route to {address.host} through another interface"
        return finding("warn", f"{message}: inside another tunnel", fix)
    return finding("ok", message)


def path_mtu(address: EndpointAddress, fwmark: int) -> Finding:
    """Say how long packets to the address may be; full-size ones are sent, to be refused."""
    is_ipv4 = isinstance(address.host, IPv4Address)
    level = socket.IPPROTO_IP if is_ipv4 else socket.IPPROTO_IPV6
    headers = 28 if is_ipv4 else 48
    discover, option = (_IP_MTU_DISCOVER, _IP_MTU) if is_ipv4 else (_IPV6_MTU_DISCOVER, _IPV6_MTU)
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        mark(probe, fwmark)
        probe.setsockopt(level, discover, _PMTUDISC_DO)
        probe.connect(sockaddr(address))
        of_interface = mtu = probe.getsockopt(level, option)
        for _ in range(_N_PROBES):
            try:
                # Of no message's type: dropped wherever it arrives.
                probe.send(bytes(min(mtu, 65535) - headers))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    break
            time.sleep(_PROBE_ANSWER_S)
            mtu = probe.getsockopt(level, option)
    if mtu < _MTU_MIN:
        fix = f"set mtu = {mtu - 80} in [interface] on both ends, or mss_clamp = true"
        return finding("warn", f"{address.host}: {mtu} bytes, too few for IPv6 inside", fix)
    if mtu < of_interface:
        message = f"{address.host}: {mtu} bytes, says a router on the way ({of_interface} here)"
        return finding("ok", message)
    return finding("ok", f"{address.host}: {mtu} bytes; no router refused a packet of that size")


def _is_tunnel(name: str) -> bool:
    directory = SYS_NET / name
    if (directory / "tun_flags").exists():
        return True
    try:
        kind = int((directory / "type").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return kind in _TUNNEL_KINDS


def _name_of(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return os.strerror(errno.ENODEV)
