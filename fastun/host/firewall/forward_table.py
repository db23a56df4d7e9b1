"""The nft table of a gateway that forwards: what may pass, and with which address it leaves.

    table inet fastun_fastun0_forward {
        chain forward {
            type filter hook forward priority filter; policy accept;
            meta nfproto ipv4 iifname { "eth0", "eth1" } oifname { "eth0", "eth1" } counter drop
            iifname "fastun0" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
            oifname "fastun0" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
            iifname "fastun0" oifname "fastun0" counter reject          (peers = false)
            ct direction reply accept                               (to = [...], and below)
            ct state related accept
            iifname "fastun0" oifname != "fastun0" ip daddr != { ... } counter reject
            oifname "fastun0" iifname != "fastun0" ip saddr != { ... } counter reject
        }
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            iifname "fastun0" oifname != "fastun0" masquerade
        }
    }

The first rule is about interfaces where forwarding was off (forwarding.py). Besides, only what
comes from the device, or leaves by it, is looked at. What is not allowed is answered
("administratively prohibited"), so a program inside fails at once and with the reason. The segments
of a TCP connection fit the narrower of the ways to its two ends, which `rt mtu` compares.
"""

from __future__ import annotations

from ipaddress import collapse_addresses
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastun.host.firewall import nft
from fastun.host.firewall.nft import Chain, Table, table_name
from fastun.host.journal.sysctls import FORWARD_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.config.forward import Forward
    from fastun.host.firewall.nft import Rule, Statement
    from fastun.peers.peer import Network

_SYN: Final[Statement] = {
    "match": {
        "op": "==",
        "left": {"&": [nft.header("tcp", "flags"), ["syn", "rst"]]},
        "right": "syn",
    }
}
_CLAMP: Final[Statement] = {
    "mangle": {
        "key": {"tcp option": {"name": "maxseg", "field": "size"}},
        "value": {"rt": {"key": "mtu"}},
    }
}
_REJECT: Final[Statement] = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
# What belongs to a connection that was allowed: its answers, and errors that routers send.
_ANSWERS: Final[tuple[Statement, ...]] = (
    nft.match({"ct": {"key": "direction"}}, "reply"),
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "related"}},
)
_MASQUERADE: Final[Statement] = {"masquerade": None}
_PROTOCOLS: Final = {4: ("ip", "ipv4"), 6: ("ip6", "ipv6")}


class Between(NamedTuple):
    """Interfaces between which packets of an IP version are not forwarded."""

    version: int
    names: tuple[str, ...]


def table(
    forward: Forward, interface: str, device: tuple[str, int], between: tuple[Between, ...] = ()
) -> Table:
    """Return the table of a device that was made as ``interface``, by its name and index now."""
    name, index = device
    ways = _Ways(name, index)
    rules = (*_not_forwarded(between), *_allowed(forward, ways))
    chains = [Chain(name="forward", hook="forward", rules=rules)]
    masquerading = tuple(_masquerading(forward, ways, name))
    if masquerading:
        chains.append(
            Chain(
                name="postrouting",
                hook="postrouting",
                kind="nat",
                priority=nft.SOURCE_NAT,
                rules=masquerading,
            )
        )
    made_as = table_name(interface, FORWARD_TABLE)
    return Table(name=made_as, interface=interface, chains=tuple(chains))


class _Ways:
    """Matches of packets that come from the device, or leave by it, or not."""

    def __init__(self, name: str, index: int) -> None:
        source, value = nft.interface_key("i", name, index)
        out, _ = nft.interface_key("o", name, index)
        self.by, self.into = nft.match(source, value), nft.match(out, value)
        self.not_by, self.not_into = nft.match(source, value, "!="), nft.match(out, value, "!=")


def _not_forwarded(between: tuple[Between, ...]) -> Iterator[Rule]:
    """Yield what keeps this host from being a router for others, where it was none."""
    for version, names in between:
        way = (nft.match(nft.meta("iifname"), names), nft.match(nft.meta("oifname"), names))
        yield nft.match(nft.meta("nfproto"), _PROTOCOLS[version][1]), *way, nft.COUNTER, nft.DROP


def between_of(items: list[dict[str, Any]]) -> Iterator[Between]:
    """Yield what a table of another gateway keeps apart, from what nft lists of it."""
    families = {family: version for version, (_, family) in _PROTOCOLS.items()}
    for rule in (item["rule"] for item in items if "rule" in item):
        values = [each["match"]["right"] for each in rule["expr"] if "match" in each]
        if nft.DROP in rule["expr"] and len(values) == 3 and values[0] in families:  # noqa: PLR2004
            names = values[1].get("set", ()) if isinstance(values[1], dict) else (values[1],)
            yield Between(families[values[0]], tuple(map(str, names)))


def _allowed(forward: Forward, ways: _Ways) -> Iterator[Rule]:
    for way in (ways.by, ways.into):
        yield way, _SYN, _CLAMP
    if not forward.peers:
        yield ways.by, ways.into, nft.COUNTER, _REJECT
    if forward.to:
        for answer in _ANSWERS:
            yield answer, nft.ACCEPT
        for version in _PROTOCOLS:
            of_version = (each for each in forward.to if each.version == version)
            networks: list[Network] = list(collapse_addresses(of_version))  # type: ignore[type-var]
            if any(each.prefixlen == 0 for each in networks):
                continue
            for here, there, field in (
                (ways.by, ways.not_into, "daddr"),
                (ways.into, ways.not_by, "saddr"),
            ):
                yield here, there, _outside(networks, version, field), nft.COUNTER, _REJECT


def _outside(networks: list[Network], version: int, field: str) -> Statement:
    """Return the match of addresses of an IP version that are in none of the networks."""
    protocol, family = _PROTOCOLS[version]
    if not networks:
        return nft.match(nft.meta("nfproto"), family)
    return nft.match(
        nft.header(protocol, field), [nft.network(str(each)) for each in networks], "!="
    )


def _masquerading(forward: Forward, ways: _Ways, name: str) -> Iterator[Rule]:
    if forward.masquerade is True:
        yield ways.by, ways.not_into, _MASQUERADE
        return
    for other in forward.masquerade or ():
        if other == name:  # what this host's own networks send into the tunnel
            yield ways.not_by, ways.into, _MASQUERADE
        else:
            yield ways.by, nft.match(nft.meta("oifname"), other), _MASQUERADE
