"""What goes over a wire between two fastun ends on UDP: index and counter of every data message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host

_SOL_PACKET, _PACKET_VNET_HDR, _SO_RCVBUFFORCE = 263, 15, 33  # linux/if_packet.h, socket.h
_ETH_P_ALL = 3
_VNET = struct.Struct("<BBHHHH")  # linux/virtio_net.h: flags, type, header, segment, start, offset
_ETHERNET_BYTES, _UDP_BYTES = 14, 8
_DATA_TYPES = (b"\x04\0\0\0", b"\x05\0\0\0")
_READ_BYTES = 70_000
_BUFFER_BYTES = 256 * 1024 * 1024
_REST_S = 5.0


class Sealed(NamedTuple):
    """A data message; ``source`` and ``to`` are ports."""

    source: int
    to: int
    index: int
    counter: int


@contextlib.contextmanager
def sealed_on(host: Host, device: str) -> Iterator[list[Sealed]]:
    """Note each data message that a device of a host takes in, also those in one train."""
    found: list[Sealed] = []
    stopped = threading.Event()
    ear = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    ear.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    ear.bind((device, _ETH_P_ALL))
    ear.settimeout(0.1)

    def listen() -> None:
        ends_s: float | None = None  # what comes all the time has no last one
        while ends_s is None or time.monotonic() < ends_s:
            if ends_s is None and stopped.is_set():
                ends_s = time.monotonic() + _REST_S
            try:
                packet, address = ear.recvfrom(_READ_BYTES)
            except TimeoutError:
                if ends_s is not None:
                    return
                continue
            if address[2] != socket.PACKET_OUTGOING:
                found.extend(_messages(packet))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()
        ear.close()


def _messages(packet: bytes) -> Iterator[Sealed]:
    segment = _VNET.unpack_from(packet)[3]
    ip = packet[_VNET.size + _ETHERNET_BYTES :]
    if len(ip) < 28 or ip[0] >> 4 != 4 or ip[9] != socket.IPPROTO_UDP:
        return
    header_bytes = (ip[0] & 15) * 4
    source, to = struct.unpack_from(">HH", ip, header_bytes)
    (length,) = struct.unpack_from(">H", ip, 2)
    payload = ip[header_bytes + _UDP_BYTES : length]
    for start in range(0, len(payload), segment or len(payload) or 1):
        message = payload[start : start + (segment or len(payload))]
        if message[:4] in _DATA_TYPES:
            yield Sealed(source, to, *struct.unpack_from("<IQ", message, 4))
