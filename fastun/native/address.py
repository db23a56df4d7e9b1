"""Where a peer is on UDP, in the form that C keeps."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from fastun.native.library import ffi, lib

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_IPV4_VERSION = 4
_LEFT = int(lib.UDP_ADDRESS_LEFT)


class UdpAddress(msgspec.Struct, frozen=True, gc=False):
    """Where a peer is on UDP: ``struct udp_address`` of csrc/fastun.h.

    ``local`` is our address that the peer sends to, None where it is unknown. ``zone`` is the
    interface of a link-local address, else 0.
    """

    host: IPv4Address | IPv6Address
    port: int
    socket_index: int = 0
    zone: int = 0
    local: IPv4Address | IPv6Address | None = None
    local_zone: int = 0

    @classmethod
    def unpack(cls, packed: bytes) -> UdpAddress:
        """Return what C's bytes say. Raises ValueError for what no worker writes.

        An address has one form only: two for one could be taken for two places.
        """
        if len(packed) != ffi.sizeof("struct udp_address"):  # a cast does not look
            raise ValueError(packed)
        native = ffi.from_buffer("struct udp_address *", packed)
        local = bytes(native.local)
        found = cls(
            _host(native.family, bytes(native.address)),
            native.port,
            native.socket_index,
            native.zone,
            _ours(native.family, local) if any(local) else None,
            native.local_zone,
        )
        if native.socket_index >= lib.N_SOCKETS or found.pack() != packed:
            raise ValueError(packed)
        return found

    def pack(self) -> bytes:
        """Return the bytes for C."""
        native = ffi.new("struct udp_address *")
        is_ipv4 = self.host.version == _IPV4_VERSION
        native.socket_index = self.socket_index
        native.family = lib.UDP_ADDRESS_IPV4 if is_ipv4 else lib.UDP_ADDRESS_IPV6
        native.port = self.port
        native.address = self.host.packed.ljust(16, b"\0")
        native.zone = self.zone
        native.local = (b"" if self.local is None else self.local.packed).ljust(16, b"\0")
        native.local_zone = self.local_zone
        return bytes(ffi.buffer(native))

    def without_source(self, *, left: bool = False) -> UdpAddress:
        """Return the same, to be sent to from an address of the kernel's choice.

        ``left``: what still comes in by its interface does not change that.
        """
        zone = self.local_zone | _LEFT if left and self.local_zone else 0
        return UdpAddress(self.host, self.port, self.socket_index, self.zone, local_zone=zone)

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in str(self.host) else f"{self.host}:{self.port}"


@functools.lru_cache(maxsize=64)  # few, and each is that of many peers
def _ours(family: int, packed: bytes) -> IPv4Address | IPv6Address:
    return _host(family, packed)


def _host(family: int, packed: bytes) -> IPv4Address | IPv6Address:
    from ipaddress import IPv4Address, IPv6Address  # noqa: PLC0415 (no worker needs it: 0.3 MiB)

    return IPv4Address(packed[:4]) if family == lib.UDP_ADDRESS_IPV4 else IPv6Address(packed)
