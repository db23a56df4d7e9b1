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
- where it is asked for, the networks that this host is in, if they are private, unique local or
  link-local, but no DNS there
- from the tunnel, answers to the containers and virtual machines that use it
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from fastun.host import nft
from fastun.host.nft import ACCEPT, COUNTER, DROP, Chain, Table, header, match, meta, table_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.nft import Rule, Statement
    from fastun.host.outer_addresses import OuterAddress
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
_PRIVATE: Final = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            *("169.254.0.0/16", "fe80::/10"),  # RFC 3927, RFC 4291
            "fc00::/7",  # RFC 4193
        ),
    )
)
# Routers do not forward these (RFC 5771, RFC 919, RFC 4291).
_STAYS_ON_LINK: Final = {
    4: frozenset(map(ip_network, ("224.0.0.0/24", "255.255.255.255"))),
    6: frozenset(map(ip_network, ("fe80::/10", "ff02::/16"))),
}


class OuterEndpoint(NamedTuple):
    """Where fastun's own packets go."""

    protocol: str  # tcp or udp
    host: OuterAddress
    port: int


class LocalNetwork(NamedTuple):
    """A network of this host, and whether its interface has a router, as an uplink has."""

    interface: str
    network: Network
    has_router: bool


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What one tunnel's kill switch lets pass; `mark` is that of fastun's own packets.

    `has_lan`: the private ones among ``networks``, too. None of these is what the tunnel leads to.
    """

    interface: str
    mark: int
    endpoints: frozenset[OuterEndpoint] = frozenset()
    dns_servers: frozenset[OuterAddress] = frozenset()
    networks: tuple[LocalNetwork, ...] = ()
    has_lan: bool = False


def is_private(network: Network) -> bool:
    """Return whether no host outside of this site can have an address in ``network``."""
    return any(_is_in(network, private) for private in _PRIVATE)


def _is_in(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def table(allowed: Allowed) -> Table:
    """Return the table."""
    local = (match(meta("oifname"), [_LOOPBACK, allowed.interface]), ACCEPT)
    own = (*_own(allowed), *_uplink())
    lan = tuple(_lan(allowed)) if allowed.has_lan else ()
    answers = tuple(_answers(allowed))
    dropped = (COUNTER, DROP)
    return Table(
        name=table_name(allowed.interface, PURPOSE),
        interface=allowed.interface,
        chains=(
            _chain("output", local, *own, *lan, (COUNTER, _REJECT)),
            _chain("forward", local, *lan, *answers, dropped),
            _chain("postrouting", local, *own, *lan, *answers, dropped),
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


def _lan(allowed: Allowed) -> Iterator[Rule]:
    """Yield the rules for the private networks that this host is in, but no names there."""
    yield (
        match(meta("l4proto"), ["tcp", "udp"]),
        match(header("th", "dport"), list(_NAME_PORTS)),
        COUNTER,
        DROP,
    )
    for interface, version, networks in _by_interface(allowed.networks):
        yield _to(interface, version, {*_STAYS_ON_LINK[version], *networks})


def _answers(allowed: Allowed) -> Iterator[Rule]:
    """Yield the rules for packets from the tunnel to networks behind this host, not its uplinks."""
    behind = [
        each for each in allowed.networks if not (each.has_router or each.network.is_link_local)
    ]
    for interface, version, networks in _by_interface(behind):
        came = match(meta("iifname"), allowed.interface)
        yield came, *_to(interface, version, networks)


def _to(interface: str, version: int, networks: set[Network]) -> Rule:
    outermost = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]
    to = [nft.network(str(network)) for network in outermost]
    destination = header(_PROTOCOLS[version], "daddr")
    return match(meta("oifname"), interface), match(destination, to), ACCEPT


def _by_interface(networks: Iterable[LocalNetwork]) -> Iterator[tuple[str, int, set[Network]]]:
    """Yield each interface's private networks of an IP version."""
    found: dict[tuple[str, int], set[Network]] = {}
    for each in networks:
        if is_private(each.network) and is_valid_name(each.interface):
            found.setdefault((each.interface, each.network.version), set()).add(each.network)
    for (interface, version), own in sorted(found.items()):
        yield interface, version, own


def is_valid_name(interface: str) -> bool:
    """Return whether rules can name the interface, which does not exist yet."""
    return nft.interface_key("o", interface, 0)[1] == interface
