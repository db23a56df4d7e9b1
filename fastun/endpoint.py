"""Endpoints: where a side listens or dials, written as URLs.

    tcp://host[:port]    udp://host[:port]

A host is a name, an IPv4 address, or an IPv6 address in brackets, with its zone if it has one:
`tcp://[fe80::1%eth0]`. Names are checked for their shape here and resolved where they are dialled.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, get_args

import msgspec

from fastun.errors import ConfigError, quote
from fastun.vocabulary import Transport

Scheme = Transport
SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)
DEFAULT_PORTS: Final[dict[Scheme, int]] = {"tcp": 55555, "udp": 51820}  # simpletun's, WireGuard's

_HOST_PORT = re.compile(
    r"(?: \[ (?P<bracketed> [^\]]* ) \] | (?P<plain> [^:\[\]]* ) ) (?: : (?P<port> [^:]* ) )?",
    re.VERBOSE,
)
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PORT = 65535
# An interface: IFNAMSIZ less its NUL. The kernel takes more signs than these, but an address goes
# with its zone to programs that may read them as something else.
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}")

# RFC 1123 section 2.1, with the underscore that names in use have; the dot at the end is DNS's
# mark of a full name. RFC 1035 section 2.3.4 gives the lengths.
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_MAX_NAME = 253
# The resolver would read a last label like this as part of an IPv4 address (`1.2.3` is 1.2.0.3).
_NUMERIC_LAST_LABEL = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.DOTALL)


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a link. `host` carries no brackets; str() gives the URL back."""

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        """Return the URL, always with its port."""
        return f"{self.scheme}://{format_host_port(self.host, self.port)}"


def parse(text: str, meant: str = "tcp") -> Endpoint:
    """Return the endpoint that `text` spells; ConfigError names what is wrong and the fix.

    `meant` is the scheme of what is written without one.
    """
    before, separator, rest = text.partition("://")
    if not separator:
        raise ConfigError(f"{quote(text)} has no scheme; write {_with_scheme(text, meant)}")
    for scheme in SCHEMES:
        if scheme == before.lower():
            break
    else:
        raise ConfigError(f"{quote(text)}: unknown scheme {quote(before)}; write tcp:// or udp://")
    try:
        host, port = parse_host_port(rest)
    except ConfigError as error:
        raise ConfigError(f"{quote(text)}: {error}") from None
    return Endpoint(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Return host (without brackets) and port of `host[:port]`; the port is None if left out."""
    if stray := re.search(r"[/?#@]", text):
        raise ConfigError(f"unexpected {quote(stray.group())}; expected HOST:PORT")
    parts = _HOST_PORT.fullmatch(text)
    if parts is None:
        raise ConfigError("an IPv6 address needs brackets, as in [2001:db8::1]:55555")
    bracketed, plain, port = parts.group("bracketed", "plain", "port")
    host = _plain_host(plain) if bracketed is None else _ipv6_host(bracketed)
    return host, None if port is None else _port(port)


def format_host_port(host: str, port: int) -> str:
    """Return `host:port` with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _port(text: str) -> int:
    if _PORT.fullmatch(text) and 1 <= (port := int(text)) <= _MAX_PORT:
        return port
    raise ConfigError(f"port {quote(text)} is out of range (1-{_MAX_PORT})")


def _ipv6_host(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ConfigError(
            f"{quote(text)} in brackets is not an IPv6 address; write a name without brackets"
        ) from None
    check_zone(address)
    return str(address)


def check_zone(address: IPv4Address | IPv6Address) -> None:
    """Raise ConfigError for a zone that is not an interface, or whose address needs none.

    `ipaddress` takes any text after the %, and gives it back in str().
    """
    zone = address.scope_id if isinstance(address, IPv6Address) else None
    if zone is None:
        return
    if not _ZONE.fullmatch(zone):
        raise ConfigError(f"zone {quote(zone)} is not an interface; write it as in [fe80::1%eth0]")
    if not address.is_link_local:
        raise ConfigError(
            f"zone {quote(zone)} applies only to link-local addresses (fe80::); remove it"
        )


def _plain_host(text: str) -> str:
    if not text:
        raise ConfigError("host is missing; use [::] to listen on every address")
    try:
        return str(IPv4Address(text))
    except ValueError:
        return _name(text)


def _name(text: str) -> str:
    name = text.lower()
    if _NUMERIC_LAST_LABEL.fullmatch(name):
        raise ConfigError(f"{quote(text)} is not an IPv4 address; write four numbers from 0 to 255")
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{quote(text)} is not a host name; use letters, digits, dots and hyphens"
            " (other scripts in their xn-- form)"
        )
    return name


def _with_scheme(text: str, scheme: str) -> str:
    """Return the URL that was probably meant by `text`, which has no scheme."""
    for candidate in (f"{scheme}://{text}", f"{scheme}://[{text}]"):
        try:
            return str(parse(candidate))
        except ConfigError:
            continue
    return f"{scheme}://HOST:PORT"
