"""What leaves a host by its uplink beside the tunnel: captured on the wire, and tried for.

Capture     every packet that the uplink sends, as the kernel hands it to the device (packet(7))
Attempts    packets that a kill switch has to stop, sent all the time, from this host and others
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Self

import dns.message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host

_ALL, _IPV4, _ARP, _IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD  # linux/if_ether.h
_OUTGOING: Final = 4  # PACKET_OUTGOING
_ROUTER_SOLICITATION, _SOLICITATION, _ADVERTISEMENT = 133, 135, 136
INNER: Final = b"inner, and in clear"
SO_MARK, SO_BINDTODEVICE = 36, 25


@dataclass(frozen=True)
class Permitted:
    """What may leave: packets to ``endpoints``, lookups of ``names`` at ``dns_servers``."""

    endpoints: frozenset[tuple[str, str, int]]  # protocol, address, port
    dns_servers: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


@dataclass
class Capture:
    """Of one device, from the start to the end of the ``with`` block."""

    host: Host
    device: str
    permitted: Permitted
    leaks: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # when they came
    n_permitted: int = 0

    def __enter__(self) -> Self:
        # Without a protocol it hears nothing until it is bound; else it would hear all devices.
        self._socket = self.host.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.bind((self.device, _ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.settimeout(0.1)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                packet, (_, protocol, kind, *_) = self._socket.recvfrom(65536)
                if kind == _OUTGOING:
                    self._judge(protocol, packet)

    def _judge(self, protocol: int, packet: bytes) -> None:
        why = leak(protocol, packet, self.permitted)
        if why:
            self.leaks.append(why)
            self.times.append(time.monotonic())
        else:
            self.n_permitted += 1


def leak(protocol: int, packet: bytes, permitted: Permitted) -> str:
    """Return in words what should not have left; empty for what may."""
    if protocol == _ARP:
        return ""  # of routers and neighbours; what waits for the answer has passed the rules
    if protocol == _IPV4:
        length = (packet[0] & 15) * 4
        source, to = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        return _of_ip(packet[9], source, to, packet[length:], permitted)
    if protocol == _IPV6:
        source6, to6 = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        if packet[6] == socket.IPPROTO_ICMPV6 and packet[7] == 255:
            kinds = (_ROUTER_SOLICITATION, _SOLICITATION, _ADVERTISEMENT)
            return "" if packet[40] in kinds else f"ICMPv6 type {packet[40]} to {to6}"
        return _of_ip(packet[6], source6, to6, packet[40:], permitted)
    return f"protocol {protocol:#06x}"


def _of_ip(
    protocol: int,
    source: IPv4Address | IPv6Address,
    to: IPv4Address | IPv6Address,
    payload: bytes,
    permitted: Permitted,
) -> str:
    name = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}.get(protocol)
    what = f"{name or f'protocol {protocol}'} from {source} to {to}"
    if name is None or len(payload) < 8:
        return what
    from_port, port = struct.unpack_from("!HH", payload)
    if (name, str(to), port) in permitted.endpoints and INNER not in payload:
        return ""
    if (name, from_port, port) in (("udp", 68, 67), ("udp", 546, 547)):
        return ""
    if port == 53 and str(to) in permitted.dns_servers and name == "udp":
        (question,) = dns.message.from_wire(payload[8:]).question
        asked = question.name.to_text(omit_final_dot=True)
        return "" if asked in permitted.names else f"a DNS question for {asked}"
    return f"{what} port {port}"


class Attempts:
    """Sends what must not leave, over and over. Use as a context manager."""

    def __init__(self, *senders: Callable[[], object]) -> None:
        self._senders = senders
        self.n_sent = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(5)

    def _send(self) -> None:
        while not self._is_over.wait(0.02):
            for send in self._senders:
                with contextlib.suppress(OSError):
                    send()
                self.n_sent += 1


def udp(
    host: Host, to: str, port: int, *, device: str = "", mark: int = 0, source: str = ""
) -> Callable[[], object]:
    """Return what sends a datagram from a host."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    made = host.socket(family, socket.SOCK_DGRAM)
    if device:
        made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
    if mark:
        made.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    if source:  # an address that may go, and come again
        option = (socket.IPPROTO_IPV6, 78) if ":" in to else (socket.IPPROTO_IP, 15)
        made.setsockopt(*option, 1)  # IPV6_FREEBIND, IP_FREEBIND
        made.bind((source, 0))
    if ip_address(to).is_multicast and device:
        index = host.inside(lambda: socket.if_nametoindex(device))
        option = (
            (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
            if ":" in to
            else (socket.IPPROTO_IP, socket.IP_MULTICAST_IF)
        )
        value = struct.pack("@i", index) if ":" in to else struct.pack("@4s4si", b"", b"", index)
        made.setsockopt(*option, value)
    return lambda: made.sendto(INNER, (to, port))


def dns_question(host: Host, server: str, name: str) -> Callable[[], object]:
    """Return what asks for a name as any program does."""
    made = host.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    return lambda: made.sendto(dns.message.make_query(name, "A").to_wire(), (server, 53))


def tcp(host: Host, to: str, port: int) -> Callable[[], object]:
    """Return what opens a connection; each time another."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    opened: list[socket.socket] = []

    def connect() -> None:
        if opened:
            opened.pop().close()
        made = host.socket(family)
        made.setblocking(False)
        opened.append(made)
        made.connect((to, port))

    return connect


def joins(host: Host, device: str) -> Callable[[], object]:
    """Return what joins and leaves multicast groups, so that IGMP and MLD report them."""

    def join() -> None:
        index = host.inside(lambda: socket.if_nametoindex(device))
        with (
            host.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
        ):
            group = socket.inet_aton("239.9.9.9") + bytes(4) + struct.pack("@i", index)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            group6 = socket.inet_pton(socket.AF_INET6, "ff05::999") + struct.pack("@i", index)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group6)

    return join


def raw_ipv6(
    host: Host, source: str, to: str, next_header: int, body: bytes
) -> Callable[[], object]:
    """Return what sends an IPv6 packet whose headers are made by hand: chains of extensions."""
    made = host.inside(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW))
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, to))
    packet = struct.pack("!IHBB", 6 << 28, len(body), next_header, 255) + addresses + body
    return lambda: made.sendto(packet, (to, 0))


def extensions(to_port: int) -> Iterator[tuple[int, bytes]]:
    """Yield chains before UDP: hop-by-hop, destination options, routing, a fragment."""
    datagram = struct.pack("!HHHH", 40000, to_port, 8 + len(INNER), 0) + INNER
    options = bytes((socket.IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0))
    yield 0, options + datagram
    yield 60, options + datagram
    yield 44, struct.pack("!BBHI", socket.IPPROTO_UDP, 0, 1, 7) + datagram  # the first of several
    yield 44, struct.pack("!BBHI", socket.IPPROTO_UDP, 0, 8 | 1, 7) + datagram  # a later one
