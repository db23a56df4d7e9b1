"""What the fields of an interface may be: its name, addresses and MTU.

The configuration file and the command line are read by the same rules. Each complaint starts with
the place that the caller gives.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Final

from fastun.config import ranges
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.vocabulary import Mode, Wire
    from fastun.peers.peer import Address

# Ethernet's, since super-packets travel whole on a stream.
STREAM_MTU: Final = 1500
# WireGuard's: with an IPv6 header (40), UDP's (8), and a data message's own (16) and tag (16), a
# packet just fills an Ethernet frame of 1500.
UDP_MTU: Final = 1420

_MIN_MTU_IPV6 = 1280  # RFC 8200 section 5; the kernel takes no IPv6 address below it.
_SIMPLETUN_BUFFER_BYTES = 2000  # What the original program can receive in one frame.
_ETHERNET_VLAN_HEADER_BYTES = 18

USUAL_LENGTH: Final = {4: 24, 6: 64}  # Of a network by IP version, for advice.

_MAX_NAME_BYTES = 15  # IFNAMSIZ less its NUL.
# Printable ASCII without / and :, which the kernel (dev_valid_name) refuses, and %, which it fills
# in: a name with %d asks it for the next free number. One with a - in front is an option to the
# programs that get it, resolvectl and resolvconf.
_NAME = re.compile(r"(?!-)[!-$&-.0-9;-~]+")
_RESERVED_NAMES = frozenset({".", "..", "all", "default"})  # The last two are sysctl's.
_CIDR = re.compile("[^/%]+/[0-9]+")


def parse_interface_name(name: str, where: str) -> str:
    """Return `name` if the kernel accepts it unchanged."""
    if not 1 <= len(name.encode(errors="replace")) <= _MAX_NAME_BYTES:
        raise ConfigError(f"{where}: {quote(name)} must be 1 to {_MAX_NAME_BYTES} bytes long")
    if not _NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise ConfigError(
            f"{where}: {quote(name)} is not a valid interface name; use letters, digits, - . _"
        )
    return name


def parse_addresses(texts: tuple[str, ...], where: str) -> tuple[Address, ...]:
    """Return the addresses, each once whatever its prefix length."""
    addresses = tuple(_address(text, where) for text in texts)
    for index, address in enumerate(addresses):
        if address.ip in {other.ip for other in addresses[:index]}:
            raise ConfigError(f"{where}: {address.ip} is listed twice; remove one")
    return addresses


def _address(text: str, where: str) -> Address:
    try:
        # A zone, a netmask or no prefix at all would pass ip_interface.
        address = ip_interface(text if _CIDR.fullmatch(text) else "")
    except ValueError:
        raise ConfigError(
            f"{where}: {quote(text)} is not an address with its prefix length;"
            " write it as in 10.9.0.1/24 or fd00:9::1/64"
        ) from None
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise ConfigError(
            f"{where}: {text} cannot be the address of a host; give one of its network"
        )
    if address.network.prefixlen == 0:
        raise ConfigError(
            f"{where}: {text} makes all addresses its network; give the length of its own, as in"
            f" {address.ip}/{USUAL_LENGTH[address.version]}"
        )
    return address


def default_mtu(mode: Mode, *, has_udp: bool) -> int:
    """Return the MTU, in bytes, with which no link has to fragment on an Ethernet path.

    A TAP device has Ethernet's own, or its hosts and bridges would have to be configured: what is
    then too long for UDP goes in two messages.
    """
    return UDP_MTU if has_udp and mode == "tun" else STREAM_MTU


def check_mtu(
    mtu: int, where: str, *, mode: Mode, wire: Wire, addresses: tuple[Address, ...]
) -> None:
    """Raise ConfigError if `mtu`, in bytes, is not for these addresses on this wire."""
    smallest, largest = ranges.MTU[0], ranges.MTU[-1]
    wanted = ""
    if any(isinstance(address, IPv6Interface) for address in addresses):
        smallest, wanted = _MIN_MTU_IPV6, " for an IPv6 address"
    if wire == "simpletun":
        header = _ETHERNET_VLAN_HEADER_BYTES if mode == "tap" else 0
        largest, wanted = _SIMPLETUN_BUFFER_BYTES - header, f"{wanted} on the simpletun wire"
    if not smallest <= mtu <= largest:
        raise ConfigError(f"{where}: MTU {mtu} is out of range{wanted} ({smallest}-{largest})")
