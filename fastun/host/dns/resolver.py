"""The resolver of this host: what is given servers, and where names are really looked up.

An exit code of 0 says little. Debian's resolvconf puts records in the order of their names, which
it may do later, or into a file that nothing reads; and systemd-resolved is asked only where
/etc/resolv.conf or nsswitch.conf(5) leads to it. So the result is looked at.
"""

from __future__ import annotations

import contextlib
import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from fastun.host import programs
from fastun.host.dns import resolv_conf

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What is to be given servers: a program, or /etc/resolv.conf itself.
Manager = Literal["resolvectl", "resolvconf", "file"]

WORDS: Final[dict[Manager, str]] = {
    "resolvectl": "systemd-resolved",
    "resolvconf": "resolvconf",
    "file": str(resolv_conf.PATH),
}

ALL_NAMES: Final = "~."  # systemd-resolved's domain of all names
ROUTING_ONLY: Final = "~"

_RESOLV_CONF: Final = resolv_conf.PATH
_NSSWITCH: Final = Path("/etc/nsswitch.conf")
_INTERFACE_ORDER: Final = Path("/etc/resolvconf/interface-order")
_PREFIX = re.compile(r"([A-Za-z0-9-]{1,16})\*")
_FILE_CHARS_MAX: Final = 65536
_LIMIT_S: Final = 5.0

# Where systemd-resolved listens: for DNS (resolv.conf names one of the two), and for nss-resolve.
_STUBS: Final = ("127.0.0.53", "127.0.0.54")
_RESOLVED: Final = Path("/run/systemd/resolve")
_RESOLVED_SOCKET: Final = "io.systemd.Resolve"


def manager() -> Manager:
    """Return what manages the resolver that this host uses.

    systemd-resolved where names are looked up by it, whatever else is installed; systemd's
    resolvconf is resolvectl by another name.
    """
    if programs.find("resolvectl") and _uses_resolved():
        return "resolvectl"
    found = programs.find("resolvconf")
    if found and Path(found).resolve().name != "resolvectl":
        return "resolvconf"
    return "file"


def _uses_resolved() -> bool:
    if _first_server() in _STUBS or _RESOLV_CONF.resolve().parent == _RESOLVED:
        return True
    return "resolve" in _hosts_sources() and _resolved_runs()


def _resolved_runs() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(_RESOLVED / _RESOLVED_SOCKET))
        except OSError:
            return False
    return True


def record_of(interface: str) -> str:
    """Return the name for resolvconf's record of an interface.

    Debian's has the order of records in a file of patterns, tun* before the LAN's. So the record
    begins as the first such pattern says, as that of wg-quick(8) does.
    """
    for line in _read(_INTERFACE_ORDER).splitlines():
        if pattern := _PREFIX.fullmatch(line.strip()):
            return f"{pattern[1]}.{interface}"
    return interface


def what_is_wrong(manager: Manager, interface: str, servers: tuple[str, ...]) -> str | None:
    """Return where names are looked up in place of ``servers``, and what to do; None if there."""
    if manager == "resolvectl":
        has = programs.run(("resolvectl", "dns", interface), limit_s=_LIMIT_S)
        if not has_server(has, servers[0]):
            return "systemd-resolved has other servers for the interface; see 'resolvectl status'"
        if "resolve" in _hosts_sources():
            return None
    first = _first_server()
    if first is None:
        return "/etc/resolv.conf has no nameserver; write the tunnel's there"
    # What listens on this host has its servers from the program.
    if ip_address(first.partition("%")[0]).is_loopback or any(_is_same(first, s) for s in servers):
        return None
    if manager == "resolvectl":
        advice = "link it to /run/systemd/resolve/stub-resolv.conf"
    else:
        advice = "let resolvconf write it, with the tunnel's first"
    return f"/etc/resolv.conf names {first} first; {advice}"


def has_server(printed: str, server: str) -> bool:
    """Return whether `resolvectl dns INTERFACE` printed a server."""
    return any(_is_same(server, word) for word in printed.split())


def resolved_signature(interface: str) -> object:
    """Return what changes with systemd-resolved's settings of an interface.

    That is its file of the interface's settings, whose contents are its own affair.
    """
    with contextlib.suppress(OSError):
        status = (_RESOLVED / "netif" / str(socket.if_nametoindex(interface))).stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _first_server() -> str | None:
    """Return the server that is asked first, None if there is none (resolv.conf(5))."""
    for line in _read(_RESOLV_CONF).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                ip_address(words[1])
                return words[1]
    return None


def _hosts_sources() -> Iterable[str]:
    """Return what is asked for a host's name before, or in place of, DNS (nsswitch.conf(5))."""
    for line in _read(_NSSWITCH).splitlines():
        database, _, sources = line.partition("#")[0].partition(":")
        if database.strip() == "hosts":
            return sources.split("dns")[0].split()
    return ()


def _is_same(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False


def _read(path: Path) -> str:
    with contextlib.suppress(OSError), path.open(encoding="ascii", errors="replace") as file:
        return file.read(_FILE_CHARS_MAX)
    return ""
