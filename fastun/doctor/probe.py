"""Whether this kernel does to super-packets what it says: tried on a TUN device of our own.

    gateway's host | namespace of a child process: probe0 192.0.2.1 <-- frames written and read here

``python -m fastun.doctor.probe`` is that child. It leaves the host's network first, so that nothing
it makes or sends can be seen there, and all of it goes when it ends. Without root it tries a user
namespace, where the kernel lets any user create a network of their own. Sources: drivers/net/tun.c,
include/linux/virtio_net.h, RFC 768, RFC 791, RFC 1071.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import subprocess
import sys
import time
from typing import Literal, NamedTuple

import msgspec

from fastun import native
from fastun.native import Mode, Offload

# Starting Python and pyroute2 on a busy machine.
_TIMEOUT_S = 20.0

# For frames that have nothing to wait for.
_ARRIVAL_S = 1.0

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_INTERFACE = "probe0"
_OURS, _THEIRS = "192.0.2.1", "192.0.2.2"  # RFC 5737
_PORT, _THEIR_PORT = 20001, 20002
_UDP_SEGMENT = 103  # linux/udp.h

# linux/virtio_net.h: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers.
_VNET = struct.Struct("<BBHHHHH")
_NEEDS_CSUM = 1
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_IPV4_BYTES, _UDP_BYTES, _TCP_BYTES = _IPV4.size, _UDP.size, _TCP.size


class _Protocol(NamedTuple):
    """What a super-packet of one says: VIRTIO_NET_HDR_GSO_*, IPPROTO_*, the checksum's place."""

    gso_type: int
    number: int
    csum_offset: int


_TCP4 = _Protocol(1, socket.IPPROTO_TCP, 16)
_UDP4 = _Protocol(5, socket.IPPROTO_UDP, 6)

_SEGMENT = 1000

# What words add up to together with their checksum.
_SUMMED = 0xFFFF

# A last segment that is shorter is what kernels of 6.6.44's time refuse; one that is not shorter is
# what 7.0 to 7.1.4 get wrong.
_SHORT_TAIL = bytes(range(250)) * 10
_EQUAL_TAIL = bytes(range(250)) * 12


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``failure``: why nothing could be tried; the others are then None.

    The three trials: None not made, "" all right, else what was wrong.
    """

    failure: str = ""
    offload: Literal["none", "tcp", "tcp+udp"] | None = None
    tcp_write: str | None = None
    udp_write: str | None = None
    udp_cut: str | None = None


def run() -> Probe:
    """Probe in a child process."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastun.doctor.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Probe)
    except subprocess.TimeoutExpired:
        return Probe(failure=f"the probe did not finish within {_TIMEOUT_S:g} s")
    except (OSError, msgspec.MsgspecError):
        return Probe(failure="the probe did not answer")


# -- the child --------------------------------------------------------------------------------


def _probe() -> Probe:
    if failure := _leave_network():
        return Probe(failure=f"cannot create a network namespace to try it in ({failure})")
    try:
        device = native.device_open(_INTERFACE, Mode.TUN)
        offload = _find_offload(device)
        _bring_up()
    except Exception as error:  # noqa: BLE001 (pyroute2's as well; whatever it was is reported)
        return Probe(failure=f"cannot create a TUN device to try it with ({_said(error)})")
    udp = offload == Offload.TCP_UDP
    return Probe(
        offload="tcp+udp" if udp else "tcp" if offload else "none",
        tcp_write=_try_tcp_write(device),
        udp_write=_try_udp_write(device) if udp else None,
        udp_cut=_try_udp_cut(device) if offload else None,
    )


def _leave_network() -> str:
    """Enter a network namespace of our own; return why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Of root's in the host's user namespace, and of any user's in a new one.
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return ""
    return os.strerror(ctypes.get_errno())


def _find_offload(device: int) -> Offload:
    for offload in (Offload.TCP_UDP, Offload.TCP):
        try:
            native.device_set_offload(device, offload)
        except OSError:
            continue
        return offload
    return Offload.NONE


def _bring_up() -> None:
    from fastun.host.netlink.iproute import IPRoute  # noqa: PLC0415 (only the child needs it)

    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=_INTERFACE)[0]
        netlink.addr("add", index=index, address=_OURS, prefixlen=30)
        netlink.link("set", index=index, state="up")
        netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


# -- trials -----------------------------------------------------------------------------------


def _try_tcp_write(device: int) -> str:
    """Write a super-packet of a TCP connection that is not there; its answer is not waited for."""
    header = _TCP.pack(_THEIR_PORT, _PORT, 1, 1, _TCP_BYTES // 4 << 4, 0x10, 0xFFFF, 0, 0)
    return _write(device, _TCP4, header, _SHORT_TAIL)


def _try_udp_write(device: int) -> str:
    """Write a super-packet of datagrams, and receive them one by one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((_OURS, _PORT))
        receiver.settimeout(_ARRIVAL_S)
        header = _UDP.pack(_THEIR_PORT, _PORT, _UDP_BYTES + len(_SHORT_TAIL), 0)
        if wrong := _write(device, _UDP4, header, _SHORT_TAIL):
            return wrong
        expected = _cut(_SHORT_TAIL)
        try:
            received = [receiver.recv(65536) for _ in expected]
        except TimeoutError:
            return "not all of its datagrams arrived"
    return "" if received == expected else "its datagrams arrived changed"


def _try_udp_cut(device: int) -> str:
    """Send a buffer of datagrams that the kernel has to cut, and read them from the device."""
    native.device_set_offload(device, Offload.TCP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((_OURS, _PORT))
        segment = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", _SEGMENT))]
        try:
            sender.sendmsg([_EQUAL_TAIL], segment, 0, (_THEIRS, _THEIR_PORT))
        except OSError as error:
            return _said(error)
    expected = _cut(_EQUAL_TAIL)
    sent = _read_datagrams(device, len(expected))
    if len(sent) < len(expected):
        return "not all of its datagrams were sent"
    return "" if sent == expected else "its datagrams were sent changed, or with wrong headers"


def _cut(payload: bytes) -> list[bytes]:
    return [payload[i : i + _SEGMENT] for i in range(0, len(payload), _SEGMENT)]


# -- frames -----------------------------------------------------------------------------------


def _write(device: int, protocol: _Protocol, header: bytes, payload: bytes) -> str:
    """Write one super-packet to us; return what the kernel says against it."""
    gso_type, number, at = protocol
    length = len(header) + len(payload)
    addresses = socket.inet_aton(_THEIRS), socket.inet_aton(_OURS)
    # What NEEDS_CSUM asks for: the pseudo-header's sum, not complemented.
    partial = _word(ones_complement_sum(pseudo_header(addresses, number, length)))
    header = header[:at] + partial + header[at + len(partial) :]
    n_headers = _IPV4_BYTES + len(header)
    vnet = _VNET.pack(_NEEDS_CSUM, gso_type, n_headers, _SEGMENT, _IPV4_BYTES, at, 0)
    try:
        os.write(device, vnet + ipv4_header(addresses, number, length) + header + payload)
    except OSError as error:
        return _said(error)
    return ""


def ipv4_header(addresses: tuple[bytes, bytes], protocol: int, length: int) -> bytes:
    """Return the header of a packet with ``length`` bytes behind it (RFC 791)."""
    fields = (0x45, 0, _IPV4_BYTES + length, 0, 0x4000, 64, protocol)
    checksum = ~ones_complement_sum(_IPV4.pack(*fields, 0, *addresses)) & 0xFFFF
    return _IPV4.pack(*fields, checksum, *addresses)


def pseudo_header(addresses: tuple[bytes, bytes], protocol: int, length: int) -> bytes:
    """Return what the checksums of TCP and UDP take in of the packet around (RFC 768)."""
    return b"".join(addresses) + struct.pack("!HH", protocol, length)


def ones_complement_sum(data: bytes) -> int:
    """Return the ones' complement sum of 16-bit words (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _read_datagrams(device: int, n_wanted: int) -> list[bytes]:
    """Return the payloads of our datagrams that the device hands out; b"" for a faulty one."""
    found: list[bytes] = []
    until_s = time.monotonic() + _ARRIVAL_S
    while len(found) < n_wanted and (left_s := until_s - time.monotonic()) > 0:
        if select.select([device], [], [], left_s)[0]:
            frame = os.read(device, 65536)
            if _is_ours(frame[_VNET.size :]):
                found.append(payload_of(frame))
    return found


def _is_ours(packet: bytes) -> bool:
    """Return whether a packet is one of our datagrams; IP greets a device with others."""
    return packet[:1] == b"\x45" and packet[9] == socket.IPPROTO_UDP


def payload_of(frame: bytes) -> bytes:
    """Return what a frame's datagram carries, b"" when its headers are not in order."""
    flags, gso_type, *_ = _VNET.unpack_from(frame)
    packet = frame[_VNET.size :]
    total_length = int.from_bytes(packet[2:4], "big")
    udp = packet[_IPV4_BYTES:]
    is_sound = (
        gso_type == 0
        and total_length == len(packet)
        and ones_complement_sum(packet[:_IPV4_BYTES]) == _SUMMED
        and _UDP.unpack_from(udp)[:3] == (_PORT, _THEIR_PORT, len(udp))
        and _is_summed(packet, udp, flags)
    )
    return udp[_UDP_BYTES:] if is_sound else b""


def _is_summed(packet: bytes, udp: bytes, flags: int) -> bool:
    """Return whether the datagram's checksum is right, or rightly left for its reader to finish."""
    addresses = packet[12:16], packet[16:20]
    pseudo = ones_complement_sum(pseudo_header(addresses, socket.IPPROTO_UDP, len(udp)))
    if flags & _NEEDS_CSUM:
        return _word(pseudo) == udp[6:8]
    return ones_complement_sum(_word(pseudo) + udp) == _SUMMED


def _word(number: int) -> bytes:
    return struct.pack("!H", number)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_probe()))
