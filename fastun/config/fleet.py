"""`[fleet]`: several gateways with one key and one peer directory, in PostgreSQL."""

from __future__ import annotations

import importlib.util
import re
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from fastun.errors import ConfigError, quote
from fastun.peers.peer import is_name

if TYPE_CHECKING:
    from fastun.config.sources import Sources

URL_MAX: Final = 1024
_SCHEMES: Final = ("postgresql", "postgres")
_EXAMPLE: Final = "postgresql://fastun@db.example.net/fastun"

# libpq's parameters that are secrets. They would be in a process list, a backup or a log.
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")
_PRINTABLE: Final = re.compile(r"[!-~]+")


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Where the peers are, as libpq has it, without a password; and this gateway's name there.

    `has_routes`: the device has routes to the addresses of the peers that are connected here.
    """

    directory: str
    name: str
    has_routes: bool = True


def fleet(sources: Sources, wire: str) -> Fleet | None:
    """Return the fleet that a gateway belongs to, None for none; raise ConfigError."""
    section = sources.document.fleet
    if section is None:
        return None
    if wire != "wireguard":
        raise ConfigError(
            f"{sources.where('fleet')}: the {wire} wire has no peer directory; remove it"
        )
    where = sources.where("fleet.directory")
    if section.directory is None:
        raise ConfigError(f"{where}: missing; give a URL as in {_EXAMPLE}, or remove [fleet]")
    url = parse_directory(section.directory, where)
    check_library(where)
    name = _name(section.name, sources.where("fleet.name"))
    return Fleet(directory=url, name=name, has_routes=section.routes)


def refuse_fleet(sources: Sources) -> None:
    """Raise ConfigError where `connect` is to have a peer directory."""
    if sources.document.fleet is not None:
        raise ConfigError(f"{sources.where('fleet')}: 'fleet' applies only to serve; remove it")


def parse_directory(url: str, where: str) -> str:
    """Return the URL of a peer directory in PostgreSQL; raise ConfigError, which shows no secret.

    What its parameters mean is libpq's, which says of a connection what is wrong with them.
    """
    if len(url) > URL_MAX or not _PRINTABLE.fullmatch(url):
        raise ConfigError(f"{where}: must be 1 to {URL_MAX} printable characters without spaces")
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None
        unquote(url, errors="strict")  # what %XX stands for is UTF-8
        names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError:
        raise ConfigError(f"{where}: not a URL; write it as in {_EXAMPLE}") from None
    if parts.scheme not in _SCHEMES:
        raise ConfigError(f"{where}: must begin with postgresql://, as in {_EXAMPLE}")
    if has_password or not names.isdisjoint(_SECRETS):
        raise ConfigError(
            f"{where}: has a password, which others could read there; put it into a passfile of"
            " mode 0600 (~/.pgpass, or ?passfile=PATH in the URL) or use a client certificate"
        )
    if parts.fragment:
        raise ConfigError(f"{where}: unexpected '#'; write it as in {_EXAMPLE}")
    return url


def check_library(where: str) -> None:
    """Raise ConfigError where the library for PostgreSQL is not installed. Imports nothing."""
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            f"{where}: the Python library psycopg is not installed; install fastun[fleet], or"
            " Debian's python3-psycopg"
        )


def _name(given: str | None, where: str) -> str:
    name = socket.gethostname() if given is None else given
    if not is_name(name):
        raise ConfigError(
            f"{where}: {quote(name)} cannot name a gateway; use 1 to 64 letters, digits and . _ @ -"
        )
    return name
