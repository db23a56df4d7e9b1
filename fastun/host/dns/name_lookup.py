"""Looks up one host name: by the host's resolver, or outside the tunnel where that leads into it.

    getaddrinfo(3)                     as any program does
    dnspython, marked socket --> DNS   where the way to the host's DNS servers, or these themselves,
                                       are the tunnel's: it may be down just when a name is needed;
                                       and with a kill switch, which drops what has no mark

The servers outside are those that the host has besides the tunnel's, and those that it had before
(DnsFiles, read before there is a device). /etc/hosts counts both ways. Everything here blocks: not
on the event loop's thread.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from fastun.host.dns import resolv_conf
from fastun.host.dns.resolved import HostAddress, NoSuchNameError, NotYetError
from fastun.host.netlink.rtnetlink import RTA_OIF, RouteQuestions, number
from fastun.host.routing.outer_addresses import parsed
from fastun.host.sockets.maker import OwnSockets

if TYPE_CHECKING:
    from fastun.host.netlink.rtnetlink import Address
    from fastun.host.sockets.maker import SocketMaker

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_HOSTS: Final = Path("/etc/hosts")

# Where resolvers on this host, to which resolv.conf may point, have the servers that they ask.
_UPSTREAM: Final = tuple(
    Path(path)
    for path in (
        "/run/systemd/resolve/resolv.conf",
        "/run/NetworkManager/no-stub-resolv.conf",
        "/run/dnsmasq/resolv.conf",
    )
)

# What resolvconf(8) has of each interface: openresolv's, and Debian's.
_RECORDS: Final = (Path("/run/resolvconf/interfaces"), Path("/run/resolvconf/interface"))

_DNS_PORT: Final = 53

# For each of AAAA and A: a query, and its repetitions to all servers.
_LIFETIME_S: Final = 5.0

# What glibc says of a name that DNS does not have, or has without an address (netdb.h); everything
# else may pass: no network, no server, no answer.
_EAI_NODATA, _EAI_ADDRFAMILY = -5, -9
_PERMANENT: Final = {socket.EAI_NONAME, _EAI_NODATA, _EAI_ADDRFAMILY}


class DnsFiles(NamedTuple):
    """What the host's resolver files say at one moment."""

    resolv_conf: str = ""
    upstream: str = ""
    records: str = ""

    @classmethod
    def read(cls) -> DnsFiles:
        """Read them; those that cannot be read are empty."""
        records = [_text(file) for directory in _RECORDS for file in directory.glob("*")]
        upstream = next(filter(None, map(_text, _UPSTREAM)), "")
        return cls(_text(_RESOLV_CONF), upstream, "\n".join(records))

    def servers(self) -> list[str]:
        """Return the servers' addresses; instead of a resolver on this host, those it asks."""
        servers = _servers(self.resolv_conf)
        if any(ip_address(server).is_loopback for server in servers):
            return _servers(self.upstream) or servers
        return servers

    def all_servers(self) -> list[str]:
        """Return these, and those of interfaces that `servers` does not use at the moment."""
        others = f"{self.records}\n{resolv_conf.set_aside(self.resolv_conf)}"
        records = [each for each in _servers(others) if not ip_address(each).is_loopback]
        return [*self.servers(), *records]


# Lets lookups of names reach these servers.
Allow = Callable[[Collection[str]], None]


class NameLookup:
    """Looks up names for one gateway. Any thread but the event loop's."""

    def __init__(
        self,
        fwmark: int = 0,
        device_index: int = 0,
        before: DnsFiles | None = None,
        own_servers: Callable[[], Collection[str]] = tuple,
        allow: Callable[[], Allow | None] = lambda: None,
        *,
        sockets: SocketMaker | None = None,
    ) -> None:
        """Look up by the mark (0: none) outside the device of that index (0: no device).

        ``before``: as the files were before this tunnel changed them. ``own_servers`` gives the
        tunnel's own DNS servers, as long as the host uses them. While ``allow`` returns anything
        there is a kill switch: only the mark gets out, and only to servers that that is given.
        ``sockets`` have the mark.
        """
        self._sockets = sockets or OwnSockets(fwmark)
        self._fwmark = fwmark
        self._device_index = device_index
        self._before = before or DnsFiles()
        self._own_servers = own_servers
        self._allow = allow

    def __call__(self, name: str) -> tuple[HostAddress, ...]:
        """Return the addresses of a name, each once, in the order of preference.

        Raises NotYetError or NoSuchNameError.
        """
        now = DnsFiles.read() if self._device_index else DnsFiles()
        allow = self._allow()
        if allow is None and not self._leads_inside(now):
            return _by_the_host(name)
        in_file = _in_hosts_file(name)
        if in_file:
            return in_file
        servers = self._outside(now)
        if allow is not None:
            if not servers:
                raise NotYetError("this host has no DNS server")
            allow(servers)
            if all(ip_address(server).is_loopback for server in servers):
                return self._by_own_resolver(name, servers)
        return self._by_dns(name, servers) if servers else _by_the_host(name)

    def _leads_inside(self, now: DnsFiles) -> bool:
        """Return whether ordinary lookups would go through the tunnel."""
        if self._own_servers():
            return True
        if not self._device_index or not self._fwmark:  # without a mark there is no other way
            return False
        with contextlib.suppress(OSError), RouteQuestions() as questions:
            for server in map(ip_address, now.servers()):
                with contextlib.suppress(OSError):  # no route
                    route = questions.ask(server, protocol=socket.IPPROTO_UDP, port=_DNS_PORT)
                    if number(route.attributes.get(RTA_OIF, b"")) == self._device_index:
                        return True
        return False

    def _outside(self, now: DnsFiles) -> list[str]:
        own = self._own_servers()
        present = [server for server in now.all_servers() if server not in own]
        return list(dict.fromkeys((*present, *self._before.servers())))

    def _by_dns(self, name: str, servers: list[str]) -> tuple[HostAddress, ...]:
        from fastun.host.dns import marked_dns  # noqa: PLC0415 (dnspython, which most never need)

        resolver = marked_dns.resolver(servers, self._before.resolv_conf, self._sockets)
        found = marked_dns.addresses(resolver, name, _LIFETIME_S)
        return tuple(sorted(map(HostAddress, found), key=self._preference))

    def _by_own_resolver(self, name: str, servers: list[str]) -> tuple[HostAddress, ...]:
        """Ask a resolver on this host, which may know the name, but whose queries are dropped."""
        try:
            return self._by_dns(name, servers)
        except NotYetError:
            raise NotYetError(
                f"the kill switch drops what the resolver at {servers[0]} asks, and its DNS servers"
                " are unknown; write the server's address into 'endpoint', or its name into"
                " /etc/hosts"
            ) from None

    def _preference(self, address: HostAddress) -> tuple[bool, bool]:
        """Sort by RFC 6724's first rule and its default policy: what has a route, then IPv6."""
        return not self._has_route(address.host), isinstance(address.host, IPv4Address)

    def _has_route(self, host: Address) -> bool:
        family = socket.AF_INET if isinstance(host, IPv4Address) else socket.AF_INET6
        try:
            with self._sockets.outgoing(family, socket.SOCK_DGRAM) as probe:
                probe.connect((str(host), _DNS_PORT))  # sends nothing
        except OSError:
            return False
        return True


# -- the host's resolver ----------------------------------------------------------------------


def _by_the_host(name: str) -> tuple[HostAddress, ...]:
    try:
        # Without a socket type glibc gives each address three times.
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        _raise(error)
    except (OSError, UnicodeError) as error:
        raise NotYetError(str(error)) from None
    return tuple(dict.fromkeys(_host_address(address) for *_, address in found))


def _raise(error: socket.gaierror) -> NoReturn:
    kind = NoSuchNameError if error.errno in _PERMANENT else NotYetError
    raise kind(error.strerror or str(error)) from None


def _host_address(sockaddr: tuple[object, ...]) -> HostAddress:
    host = parsed(str(sockaddr[0]))
    zone = sockaddr[3] if len(sockaddr) > 3 else 0  # noqa: PLR2004 (flow info precedes it)
    return HostAddress(host, zone if isinstance(zone, int) else 0)


# -- files ------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _servers(resolv_conf: str) -> list[str]:
    """Return the addresses in the text of a resolv.conf(5)."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                found.append(str(ip_address(words[1])))
    return found


def _in_hosts_file(name: str) -> tuple[HostAddress, ...]:
    """Return what hosts(5) has for a name, which needs no DNS."""
    wanted = name.rstrip(".").lower()
    found: list[HostAddress] = []
    for line in _text(_HOSTS).splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in map(str.lower, names):
            with contextlib.suppress(ValueError):
                found.append(HostAddress(parsed(address)))
    return tuple(dict.fromkeys(found))
