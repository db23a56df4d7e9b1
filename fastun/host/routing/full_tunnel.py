"""A tunnel that takes everything: all that this host sends or forwards, of both IP versions.

    32506: from all to 192.168.1.0/24 lookup main                     the LAN, if allowed
    32507: from all fwmark 0 lookup TABLE                             all that has no mark
    32764: from all lookup main suppress_prefixlength 0               what others have marked:
    32765: not from all fwmark MARK lookup TABLE                      as for any default route

No route of the main table counts, so whoever hands out routes, or puts this host into a network of
their choice, gets nothing that was meant for the tunnel (TunnelVision,
CVE-2024-3661; TunnelCrack, CVE-2023-36672). Beside the tunnel are only private, unique local and
link-local networks that this host has an address in: those without a router, as of containers and
virtual machines, and if allowed the LAN. None of them holds, or is inside, a network that the
configuration or the server has put behind the tunnel. An IP version in which the device has no
address is answered with "unreachable", so that programs try the other one at once.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from fastun.config.full_tunnel import DEFAULTS
from fastun.host.netlink.kernel import Place
from fastun.host.routing.other_networks import HALF_PREFIX, is_inside
from fastun.host.routing.rule_kinds import Beside, Level, Unmarked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastun.config.settings import Settings
    from fastun.host.netlink.kernel import FoundAddress, FoundRoute
    from fastun.host.routing.placing import Placed
    from fastun.peers.peer import Network

# RFC 1918, RFC 3927, RFC 4193. A network of any other address is of the internet, where
# an attacker may claim what is to be sent in clear.
PRIVATE: Final = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7"),
    )
)
# No packet for these leaves its link, and IPv6 does not work without them (RFC 4291).
LINK_LOCAL: Final = ip_network("fe80::/10")

# By a route in the table its rules are known to be a living gateway's (routing_rules.py).
_ALWAYS: Final = DEFAULTS[0]

_LOOPBACK_INDEX: Final = 1  # net/core/dev.c: in each network namespace


def take_all(placed: Placed, table: int, beside: Iterable[Network]) -> None:
    """Add to ``placed`` what a tunnel needs that takes everything, and leave ``beside`` out."""
    carried = {address.version for address in placed.addresses if not address.is_link_local}
    for network in DEFAULTS:
        version = network.version
        placed.levels.discard(Level(version, 0))
        placed.routes.pop(Place(network, table), None)
        if version in carried or network == _ALWAYS:
            placed.routes[Place(network, table)] = None
        _lead(placed, version, is_blocked=version not in carried)
    placed.levels |= {Beside(network) for network in (*beside, LINK_LOCAL)}


def block(placed: Placed, network: Network) -> None:
    """Let nothing past the tunnel where the kernel refuses the default route ``network``."""
    version = network.version
    if Unmarked(version, is_blocked=False) in placed.levels and not network.prefixlen:
        placed.levels -= {Level(version, 0), Unmarked(version, is_blocked=False)}
        _lead(placed, version, is_blocked=True)


def _lead(placed: Placed, version: int, *, is_blocked: bool) -> None:
    placed.levels |= {Level(version, 0, is_blocked), Unmarked(version, is_blocked)}


# -- what stays beside it -------------------------------------------------------------------------


def beside(
    addresses: Iterable[FoundAddress],
    main_routes: Iterable[FoundRoute],
    but: int,
    *,
    allow_lan: bool,
) -> list[Network]:
    """Return the networks that this host may reach without the tunnel, the device ``but``.

    The LAN is where a default route leads.
    """
    uplinks = {
        index
        for route in main_routes
        if route.place.network.prefixlen <= HALF_PREFIX
        for index in route.indices
    }
    found = {
        each.peer.network: None
        for each in addresses
        if each.index not in (but, _LOOPBACK_INDEX)
        and (allow_lan or each.index not in uplinks)
        and any(is_inside(each.peer.network, private) for private in PRIVATE)
    }
    return list(found)


def apart(networks: Iterable[Network], inside: Sequence[Network]) -> tuple[list[Network], ...]:
    """Return the networks that have nothing in common with those inside the tunnel, and others."""
    named = [each for each in inside if each.prefixlen > HALF_PREFIX]
    both: tuple[list[Network], list[Network]] = [], []
    for network in networks:
        meets = any(is_inside(network, each) or is_inside(each, network) for each in named)
        both[meets].append(network)
    return both


# -- words ----------------------------------------------------------------------------------------


def not_routed(settings: Settings) -> Iterator[str]:
    """Yield a line for each peer whose allowed IPs hold everything, where nothing is routed."""
    if settings.role != "connect" or settings.table != "off":
        return
    for peer in settings.peers:
        found = [network for network in peer.allowed_ips if network.prefixlen <= HALF_PREFIX]
        if found and "default" not in settings.accept:
            yield (
                f"{' '.join(map(str, found))} in the allowed IPs of {peer.name} is not routed,"
                ' because table is off; to route everything, use --all, or set table = "all"'
            )
