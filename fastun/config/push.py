"""What a listening side pushes to a connecting one, and how much of it fits a hello.

A hello is one message: on a stream of HELLO_BYTES_MAX at most, on UDP one datagram that must reach
the peer on any path. A push that does not fit is refused where it is configured, because later
there would be no useful error: over TCP the client refuses the hello, over UDP it is lost.
"""

from __future__ import annotations

import bisect
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from msgspec import structs

from fastun import codec
from fastun.config import ranges
from fastun.config.host import parse_dns
from fastun.config.peer import parse_keepalive
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Address, Network

# A hello is some 200 bytes, and what is pushed some 100 more; this leaves room for what later
# versions add, and bounds what an unknown sender can make us hold.
HELLO_BYTES_MAX: Final = 4096

# An IPv6 path takes 1280 bytes (RFC 8200 section 5): less the headers of IPv6 and UDP, those of a
# data message, and its tag.
DATAGRAM_HELLO_BYTES_MAX: Final = 1280 - 40 - 8 - 16 - 16

# The rest of a hello: some 150 bytes today, 201 with the longest name that a peer is shown by.
_REST_BYTES: Final = 256

# What a client takes of a push, whatever the bytes. 256 routes are more than a hello can carry of
# any but the shortest; a host has a few addresses, and its resolver asks three servers (resolv.conf
# (5), MAXNS) in six domains.
ADDRESSES_MAX: Final = 64
ROUTES_MAX: Final = 256
DNS_MAX: Final = 32


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """What a listening side gives a connecting one; 0 is for nothing said.

    ``mtu`` is in bytes, ``keepalive`` in seconds. ``dns`` has addresses of servers and domains to
    search. ``default``: everything may go through the server. Each push replaces the one before it.
    """

    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mtu: int = 0
    keepalive: int = 0
    default: bool = False


# -- a client's look --------------------------------------------------------------------------


def check(push: Push) -> None:
    """Raise ValueError for an invalid address, network or the like, or for too many.

    `ipaddress` accepts any text as a zone (fe80::1%eth0), and returns it in str(). A zone names an
    interface of the host that pushes it, so it is refused.
    """
    for name, most in _MOST.items():
        if len(getattr(push, name)) > most:
            raise ValueError(f"{name}: {len(getattr(push, name))} pushed, at most {most} allowed")
    for text in (*push.addresses, *push.routes):
        if "%" in text:
            raise ValueError(f"{quote(text)} has a zone; a pushed address has none")
    for address in push.addresses:
        ip_interface(address)
    for route in push.routes:
        ip_network(route)
    try:
        parse_dns(push.dns, "dns", has_zones=False)
        parse_keepalive(push.keepalive, "keepalive")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if push.mtu and push.mtu not in ranges.MTU:
        raise ValueError(f"mtu: {push.mtu} is out of range ({ranges.MTU[0]}-{ranges.MTU[-1]})")


_MOST: Final = {"addresses": ADDRESSES_MAX, "routes": ROUTES_MAX, "dns": DNS_MAX}


# -- a server's ------------------------------------------------------------------------------


def room_for(listen: Iterable[Endpoint]) -> int:
    """Return how long an encoded push may be, in bytes, for the hello to reach every client."""
    has_udp = any(endpoint.scheme == "udp" for endpoint in listen)
    return (DATAGRAM_HELLO_BYTES_MAX if has_udp else HELLO_BYTES_MAX) - _REST_BYTES


def fits(push: Push, room: int) -> bool:
    """Return whether a client takes the push, and its hello carries it in `room` bytes."""
    is_few = all(len(getattr(push, name)) <= most for name, most in _MOST.items())
    return is_few and size_bytes(push) <= room


def size_bytes(push: Push) -> int:
    """Return the length of the encoded push."""
    return len(codec.pack(push))


def left_bytes(push: Push, listen: Iterable[Endpoint]) -> int:
    """Return how many bytes of the room a push leaves."""
    return room_for(listen) - size_bytes(push)


def check_addresses(addresses: Sequence[Address], left: int, where: str) -> None:
    """Raise ConfigError if a client's addresses do not fit beside the rest of its push."""
    texts = tuple(map(str, addresses))
    if not fits(Push(addresses=texts), left + size_bytes(Push())):
        raise ConfigError(
            f"{where}: {len(texts)} addresses do not fit the hello to the client; use"
            " fewer, or push fewer routes"
        )


def addresses_of(allowed_ips: Iterable[Network], own: Sequence[Address]) -> tuple[str, ...]:
    """Return a peer's addresses in the networks of our device, each with its network's length."""
    return tuple(
        f"{network.network_address}/{inner.prefixlen}"
        for network in allowed_ips
        if network.num_addresses == 1
        for inner in dict.fromkeys(address.network for address in own)
        if inner.version == network.version and network.network_address in inner
    )


def longest_addresses(own: Sequence[Address]) -> tuple[str, ...]:
    """Return as long a text as a client's address can be, one for each network of our device."""
    return tuple(
        f"{network.broadcast_address}/{network.prefixlen}"
        for network in dict.fromkeys(address.network for address in own)
    )


def routes_of(own: Sequence[Address], more: Iterable[Network]) -> tuple[str, ...]:
    """Return the networks of our device and those behind it, each once."""
    return tuple(map(str, dict.fromkeys((*(address.network for address in own), *more))))


def check_fits(push: Push, room: int, n_own: int, where: Callable[[str], str]) -> None:
    """Raise ConfigError where the push does not fit; it names the field and how many would.

    The first `n_own` routes are the device's own networks. `where` gives a field's place.
    """
    if fits(push, room):
        return
    own, more = push.routes[:n_own], push.routes[n_own:]
    bare = structs.replace(push, routes=own)
    if fits(bare, room):
        n_fit = _most(len(more), lambda n: fits(structs.replace(push, routes=own + more[:n]), room))
        _refuse(where("push.routes"), f"{len(more)} routes", n_fit, push, room)
    elif fits(structs.replace(bare, dns=()), room):
        n_fit = _most(len(push.dns), lambda n: fits(structs.replace(bare, dns=push.dns[:n]), room))
        _refuse(where("push.dns"), f"{len(push.dns)} entries", n_fit, push, room)
    n_fit = _most(n_own, lambda n: fits(Push(addresses=push.addresses[:n], routes=own[:n]), room))
    _refuse(where("interface.address"), f"{n_own} networks", n_fit, push, room)


def _most(n: int, is_so: Callable[[int], bool]) -> int:
    """Return the highest number up to `n` for which it is so, if it is for all below."""
    return max(0, bisect.bisect_left(range(n + 1), True, key=lambda some: not is_so(some)) - 1)


def _refuse(place: str, what: str, n_fit: int, push: Push, room: int) -> NoReturn:
    raise ConfigError(
        f"{place}: {what} do not fit the hello to clients ({size_bytes(push):,} bytes, limit"
        f" for {room:,}); {n_fit} would fit: remove some, or combine them into wider prefixes"
    )
