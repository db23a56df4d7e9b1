"""Everything through the tunnel: `--all`, `table = "all"`, or a pushed default route."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastun.config.sources import Sources
    from fastun.config.vocabulary import Table
    from fastun.peers.peer import Network, Peer

DEFAULTS: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def may_take_all(table: Table, accept: Collection[str]) -> bool:
    """Return whether everything may come to go through the tunnel."""
    return table == "all" or "default" in accept


def place(sources: Sources) -> str:
    """Return where it was asked for."""
    if sources.options.all_traffic:
        return "--all"
    is_table = sources.document.interface.table == "all"
    return sources.where("interface.table" if is_table else "interface.accept")


def widened(peers: tuple[Peer, ...], where: str) -> tuple[Peer, ...]:
    """Return the peers with one that may be sent everything, and may send from anywhere.

    That is the only one, or the one whose allowed IPs hold all of an IP version. Raises ConfigError
    where it is ambiguous.
    """
    missing = tuple(
        network for network in DEFAULTS if not any(network in peer.allowed_ips for peer in peers)
    )
    if not missing:
        return peers
    chosen = [peer for peer in peers if any(network in peer.allowed_ips for network in DEFAULTS)]
    chosen = chosen or list(peers)
    if len(chosen) > 1:
        raise ConfigError(
            f"{where}: there are {len(peers)} peers, and none is the default route; add"
            f" {' and '.join(map(str, missing))} to the allowed IPs of the one that is to be"
        )
    wide = replace(chosen[0], allowed_ips=(*chosen[0].allowed_ips, *missing))
    return tuple(wide if peer is chosen[0] else peer for peer in peers)


def allow_lan(sources: Sources, *, is_shut: bool) -> bool:
    """Return whether the LAN is reached beside the tunnel, where otherwise it ``is_shut``."""
    allows = sources.options.allow_lan or sources.document.interface.allow_lan
    if allows and not is_shut:
        where = "--allow-lan" if sources.options.allow_lan else sources.where("interface.allow_lan")
        raise ConfigError(
            f"{where}: the LAN is out of reach only where everything goes through the tunnel, or"
            ' with a kill switch; add --all, table = "all" or kill_switch = true, or remove it'
        )
    return allows
