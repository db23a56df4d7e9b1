"""The rules of a kill switch, as data: what may leave this host beside the tunnel.

    a program of this host --output--------.
                                           +--postrouting--> an interface
    a container, a VM -------forward-------'

What is not allowed in each of these hooks is dropped, or rejected where that lets a program fail
at once instead of after two minutes. `output` sees the interface that was chosen first; rules of
others that change marks or destinations have the packet routed again after that, so `postrouting`,
which is asked last, counts. All three come after the chains of other programs, and only drop more.

Allowed, for IPv4 and IPv6 alike:

- into the tunnel's device, and to this host itself
- fastun's own packets, by mark, protocol, address and port together: a mark alone can be had by
  other programs, and an address alone has other services
- DHCP's client, and neighbour discovery, without which there is no uplink; they do not leave the
  link
- this host's containers and virtual machines, and where that is asked for, the networks that it is
  in: if they are private, unique local or link-local, and no DNS there
"""

from __future__ import annotations

import ipaddress
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from fastun.host.firewall import nft
from fastun.host.firewall.nft import (
    ACCEPT,
    COUNTER,
    DROP,
    Chain,
    Table,
    header,
    match,
    meta,
    table_name,
)
from fastun.host.routing.full_tunnel import LINK_LOCAL, PRIVATE
from fastun.host.routing.other_networks import is_inside
from fastun.host.routing.outer_addresses import OuterEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.firewall.nft import Rule, Statement
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.peers.peer import Network

#: What table_name() is given: it finds a kill switch whose fastun is gone.
PURPOSE: Final = "kill_switch"

# After everything of the kernel and of other programs that changes a packet: source NAT is at 100,
# connection tracking's helpers at 300 (linux/netfilter_ipv4.h).
_LAST: Final = 400

# What a lookup of names uses: DNS, DNS over TLS and QUIC, LLMNR.
_NAME_PORTS: Final = (53, 853, 5355)

_PROTOCOLS: Final = {4: "ip", 6: "ip6"}
_LOOPBACK: Final = "lo"
# Routers do not forward these (RFC 5771, RFC 919, RFC 4291).
_STAYS_ON_LINK: Final = {
    4: frozenset(map(ip_network, ("224.0.0.0/24", "255.255.255.255"))),
    6: frozenset(map(ip_network, ("fe80::/10", "ff02::/16"))),
}


class LocalNetwork(NamedTuple):
    """A network that this host is in, and whether it is within the host: of its containers."""

    interface: str
    network: Network
    is_within: bool


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What one tunnel's kill switch lets pass; `mark` is that of fastun's own packets.

    `has_lan`: also those ``networks`` that are not within this host. None is behind the tunnel.
    """

    interface: str
    mark: int
    endpoints: frozenset[OuterEndpoint] = frozenset()
    dns_servers: frozenset[OuterAddress] = frozenset()
    networks: tuple[LocalNetwork, ...] = ()
    has_lan: bool = False


def is_private(network: Network) -> bool:
    """Return whether no host outside of this site, or link, can have an address in ``network``."""
    return any(is_inside(network, private) for private in (*PRIVATE, LINK_LOCAL))


def table(allowed: Allowed) -> Table:
    """Return the table."""
    local = (match(meta("oifname"), [_LOOPBACK, allowed.interface]), ACCEPT)
    own = (*_own(allowed), *_uplink())
    beside = tuple(_beside(allowed))
    dropped = (COUNTER, DROP)
    return Table(
        name=table_name(allowed.interface, PURPOSE),
        interface=allowed.interface,
        chains=(
            _chain("output", local, *own, *beside, (COUNTER, _REJECT)),
            _chain("forward", local, *beside, dropped),
            _chain("postrouting", local, *own, *beside, dropped),
        ),
        stays=True,
    )


_REJECT: Final[Statement] = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}


def _chain(hook: str, *rules: Rule) -> Chain:
    return Chain(name=hook, hook=hook, priority=_LAST, policy="drop", rules=rules)  # type: ignore[arg-type]


def _own(allowed: Allowed) -> Iterator[Rule]:
    """Yield the rules for what fastun itself sends."""
    lookups = {
        OuterEndpoint(protocol, server, _NAME_PORTS[0])
        for server in allowed.dns_servers
        for protocol in ("tcp", "udp")
    }
    for version, protocol in _PROTOCOLS.items():
        to = sorted(each for each in allowed.endpoints | lookups if each.host.version == version)
        if to:
            place = [meta("l4proto"), header(protocol, "daddr"), header("th", "dport")]
            places = [{"concat": [each.protocol, str(each.host), each.port]} for each in to]
            yield match(meta("mark"), allowed.mark), match({"concat": place}, places), ACCEPT


def _uplink() -> Iterator[Rule]:
    """Yield the rules for what an uplink needs: DHCP's client and neighbour discovery."""
    ports = (match(header("udp", "sport"), 68), match(header("udp", "dport"), 67))
    yield match(meta("nfproto"), "ipv4"), *ports, ACCEPT
    yield (
        match(header("ip6", "saddr"), nft.network("fe80::/10")),
        match(header("ip6", "daddr"), ["ff02::1:2", "ff05::1:3"]),
        match(header("udp", "sport"), 546),
        match(header("udp", "dport"), 547),
        ACCEPT,
    )
    # A router would make the hop limit 254 (RFC 4861 section 7.1).
    kinds = ["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]
    yield match(header("ip6", "hoplimit"), 255), match(header("icmpv6", "type"), kinds), ACCEPT


def _beside(allowed: Allowed) -> Iterator[Rule]:
    """Yield the rules for private networks that this host is in, but no names there."""
    found: dict[tuple[str, int], set[Network]] = {}
    for interface, network, is_within in allowed.networks:
        is_wanted = allowed.has_lan or is_within
        if is_wanted and is_private(network) and is_valid_name(interface):
            found.setdefault((interface, network.version), set()).add(network)
    if found:
        names = match(meta("l4proto"), ["tcp", "udp"]), match(header("th", "dport"), [*_NAME_PORTS])
        yield (*names, COUNTER, DROP)
    for (interface, version), networks in sorted(found.items()):
        reached = {*_STAYS_ON_LINK[version], *networks}
        outermost = ipaddress.collapse_addresses(reached)  # type: ignore[type-var]
        to = [nft.network(str(network)) for network in outermost]
        destination = match(header(_PROTOCOLS[version], "daddr"), to)
        yield match(meta("oifname"), interface), destination, ACCEPT


def is_valid_name(interface: str) -> bool:
    """Return whether rules can name the interface, which does not exist yet."""
    return nft.interface_key("o", interface, 0)[1] == interface
