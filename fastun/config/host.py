"""What a tunnel may change of its host: a mark, a routing table, DNS, the port that it sends from.

Only the configuration file has these fields. Each complaint starts with the place of the field.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import msgspec

from fastun import endpoint
from fastun.config import routing_tables
from fastun.config.interface import parse_interface_name
from fastun.config.ranges import KERNEL_TABLES, MARK_MAX, PORT_MAX
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.sources import Sources
    from fastun.config.vocabulary import Mode, StrongHost, Table
    from fastun.peers.peer import Address

# As resolvectl(1) and wg-quick(8) files write it.
ROUTING_ONLY: Final = "~"
_ALL_NAMES: Final = "~."


class DevicePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The device among the host's others: the bridge of a TAP, "" for none."""

    strong_host: StrongHost = "auto"
    bridge: str = ""


def place(
    sources: Sources, mode: Mode, own_name: str, addresses: tuple[Address, ...]
) -> DevicePlace:
    """Return what the device is among the host's others; raise ConfigError."""
    return DevicePlace(
        strong_host=_strong_host(sources),
        bridge=_bridge(sources, mode, own_name, addresses),
    )


def udp_port(sources: Sources) -> int | None:
    """Return the local port of `connect`, None for any; raise ConfigError."""
    port, where = sources.document.interface.listen_port, sources.where("interface.listen_port")
    if port is not None and not 0 <= port <= PORT_MAX:
        raise ConfigError(f"{where}: port {port} is out of range (1-{PORT_MAX}, or 0 for any)")
    return port or None


def dns(sources: Sources) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the servers and the search domains of `connect`; raise ConfigError."""
    texts = sources.document.interface.dns
    return parse_dns(texts, sources.where("interface.dns"), has_zones=True)


def refuse_clients_fields(sources: Sources) -> None:
    """Raise ConfigError for what only `connect` can have."""
    section = sources.document.interface
    # A wg-quick file has no other place for the port that `serve` listens on.
    if section.listen_port is not None and not sources.is_wg_quick:
        place = sources.where("interface.listen_port")
        raise ConfigError(f"{place}: serve listens on listen.udp; remove it")
    for name in ("dns", "allow_lan", "kill_switch"):
        if getattr(section, name):
            place = sources.where(f"interface.{name}")
            raise ConfigError(f"{place}: '{name}' applies only to connect; remove it")
    if section.table == "all":
        place = sources.where("interface.table")
        raise ConfigError(f"{place}: 'all' applies only to connect; use auto or off")


def fwmark(sources: Sources) -> int:
    """Return the mark of every outer packet, 0 for none; raise ConfigError."""
    mark, where = sources.document.interface.fwmark, sources.where("interface.fwmark")
    if not 0 <= mark <= MARK_MAX:
        raise ConfigError(f"{where}: mark {mark} is out of range (1-{MARK_MAX}, or 0 for none)")
    return mark


def table(sources: Sources, mode: Mode) -> Table:
    """Return the table of the routes to what is behind the peers; raise ConfigError."""
    table, where = sources.document.interface.table, sources.where("interface.table")
    if sources.options.all_traffic:
        table, where = "all", "--all"
    fleet = sources.document.fleet
    if table is None and fleet is not None and fleet.routes and mode == "tun":
        return "auto"
    if table is None or table == "off":
        return "off"
    if mode == "tap":
        raise ConfigError(
            f"{where}: routes on a TAP device need gateways, which fastun cannot set; use off"
        )
    if table == "auto":
        return "auto"
    if table == "all":
        return "all"
    if isinstance(table, str):
        number = routing_tables.number_of(table)
        if number is None:
            raise ConfigError(
                f"{where}: {quote(table)} is not auto, all, off, the number of a table, or a name"
                " in /etc/iproute2/rt_tables"
            )
        table = number
    if not 1 <= table <= MARK_MAX or table in KERNEL_TABLES:
        raise ConfigError(
            f"{where}: table {table} is out of range; use 1-{MARK_MAX} except 253 and 255, auto,"
            " all or off"
        )
    return table


def _strong_host(sources: Sources) -> StrongHost:
    """Return whether the device's addresses are closed to other interfaces; raise ConfigError."""
    value, where = sources.document.interface.strong_host, sources.where("interface.strong_host")
    if isinstance(value, str):
        if value != "auto":
            raise ConfigError(f'{where}: {quote(value)} is not one of true, false, "auto"')
        return "auto"
    return value


def _bridge(sources: Sources, mode: Mode, own_name: str, addresses: tuple[Address, ...]) -> str:
    """Return the bridge that the device is to be a port of, "" for none; raise ConfigError."""
    name, where = sources.document.interface.bridge, sources.where("interface.bridge")
    if name is None:
        return ""
    parse_interface_name(name, where)
    if mode != "tap":
        raise ConfigError(f"{where}: only a TAP device can be a port of a bridge; set mode to tap")
    if name == own_name:
        raise ConfigError(f"{where}: {name} is the device itself; give the name of a bridge")
    if addresses:
        raise ConfigError(
            f"{where}: an address of a bridge's port is of no use; give {addresses[0]} to {name},"
            " and remove it here"
        )
    return name


def parse_dns(
    texts: tuple[str, ...], where: str, *, has_zones: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the servers' addresses and the domains to search, of a list that mixes both.

    `has_zones`: a link-local address may name the interface behind a %. That is one of this host's,
    so what is pushed has none. By a ~domain a host looks up only the names inside it at these
    servers.
    """
    servers: dict[str, None] = {}  # An ordered set, as the next.
    domains: dict[str, None] = {}
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:
            domains[_domain(text, where)] = None
            continue
        if address.is_unspecified or address.is_multicast:
            raise ConfigError(
                f"{where}: {text} cannot be a DNS server; give the address of one host"
            )
        if "%" in text and not has_zones:
            raise ConfigError(
                f"{where}: {quote(text)} has a zone, which is local to this host; remove it"
            )
        try:
            endpoint.check_zone(address)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        servers[str(address)] = None
    return tuple(servers), tuple(domains)


def _domain(text: str, where: str) -> str:
    mark = ROUTING_ONLY if text.startswith(ROUTING_ONLY) else ""
    if mark and text == _ALL_NAMES:
        return text
    try:
        host, port = endpoint.parse_host_port(text.removeprefix(mark))
    except ConfigError:
        port = 0
    if port is not None or ":" in host or _is_address(host):
        raise ConfigError(
            f"{where}: {quote(text)} is neither the address of a DNS server nor a search domain"
        )
    return mark + host


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
