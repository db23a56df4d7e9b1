"""What commands take of a peer, how it becomes one, and how its file is to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from msgspec import structs

from fastun.command.client_file import FORMATS
from fastun.command.options import PATH
from fastun.config.links import DEFAULT_UDP
from fastun.config.peer import dialled_endpoint, parse_allowed_ips, parse_keepalive
from fastun.config.quantity import parse_moment, parse_rate, parse_size
from fastun.errors import ConfigError, quote
from fastun.peers.terms import TO_MAX, Quota, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Network, Peer, Server
    from fastun.peers.terms import Terms

NONE: Final = "none"
NEVER: Final = "never"
ALL: Final = "all"

BURST_MIN: Final = 3_000
BURST_MAX: Final = 10**9

NOTE_CHARS_MAX: Final = 200

_OPTIONS = (
    click.option(
        "--allowed-ips",
        multiple=True,
        metavar="CIDR",
        help="Network behind the peer; repeatable, or with commas.",
    ),
    click.option(
        "--peer-endpoint",
        multiple=True,
        metavar="URL",
        help="URL at which the peer is reached, udp://HOST[:PORT]; repeatable.",
    ),
    click.option(
        "--keepalive", type=int, metavar="SECONDS", help="Interval of keepalives to it; 0 for off."
    ),
    click.option(
        "--psk-file", type=PATH, metavar="FILE", help="File with the pre-shared key of both ends."
    ),
    click.option("--no-psk", is_flag=True, help="Have no pre-shared key with it."),
    click.option(
        "--expire",
        metavar="WHEN",
        help="End of its access: a date, a duration as in 30d, or never.",
    ),
    click.option(
        "--limit",
        metavar="RATE",
        help="Most that it may send and be sent, each, as in 10Mbit; or none.",
    ),
    click.option(
        "--quota",
        metavar="SIZE",
        help="Most in a month, both directions together, as in 50GB; or none.",
    ),
    click.option(
        "--to",
        multiple=True,
        metavar="CIDR",
        help="Network that it may reach; repeatable, or with commas.  [default: all]",
    ),
    click.option("--note", metavar="TEXT", help="A line of your own about it."),
)

# Of the commands that print a client's file.
endpoint_option = click.option(
    "--endpoint",
    multiple=True,
    metavar="URL",
    help="URL at which clients reach this server; repeatable, and the default from then on.",
)
format_option = click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="toml",
    show_default=True,
    help="toml for fastun; for WireGuard's apps a wg-quick file, or its QR code.",
)

# The fields of Given that have an option of their own name.
OPTION_NAMES: Final = (
    "allowed_ips",
    "peer_endpoint",
    "keepalive",
    "psk_file",
    "no_psk",
    "expire",
    "limit",
    "quota",
    "to",
    "note",
)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What was given of a peer; None and empty leave it as it is. The texts are unchecked."""

    allowed_ips: tuple[str, ...] = ()
    peer_endpoint: tuple[str, ...] = ()
    keepalive: int | None = None
    psk_file: Path | None = None
    no_psk: bool = False
    expire: str | None = None
    limit: str | None = None
    outbound: str | None = None
    inbound: str | None = None
    burst: str | None = None
    quota: str | None = None
    quota_then: str | None = None
    to: tuple[str, ...] = ()
    note: str | None = None


NOTHING: Final = Given()


def peer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` these options; it is called with `given`."""
    import functools  # noqa: PLC0415 (for this one only)

    names = OPTION_NAMES

    @functools.wraps(command)
    def collected(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in names}
        command(given=Given(**given), **arguments)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


def changed(peer: Peer, given: Given, server: Server | None, now: float) -> Peer:
    """Return the peer as it is to be. Raises ConfigError, which names the option."""
    return replace(
        peer,
        allowed_ips=_allowed_ips(given, peer.allowed_ips),
        endpoints=_endpoints(given, server, peer.endpoints),
        keepalive_s=peer.keepalive_s
        if given.keepalive is None
        else parse_keepalive(given.keepalive, "--keepalive"),
        preshared_key=_preshared_key(given, peer.preshared_key),
        terms=_terms(peer.terms, given, server, now),
    )


def _allowed_ips(given: Given, before: tuple[Network, ...]) -> tuple[Network, ...]:
    if not given.allowed_ips:
        return before
    return (
        () if given.allowed_ips == (NONE,) else parse_networks(given.allowed_ips, "--allowed-ips")
    )


def parse_networks(texts: tuple[str, ...], where: str) -> tuple[Network, ...]:
    """Return the networks of an option that may be repeated and may have commas."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    return parse_allowed_ips(parts, where)


def _endpoints(
    given: Given, server: Server | None, before: tuple[Endpoint, ...]
) -> tuple[Endpoint, ...]:
    if not given.peer_endpoint:
        return before
    if given.peer_endpoint == (NONE,):
        return ()
    where = "--peer-endpoint"
    endpoints = tuple(dialled_endpoint(url, where) for url in given.peer_endpoint)
    for each in endpoints:
        if each.scheme != "udp":
            raise ConfigError(
                f"{where}: serve only accepts TCP connections, it does not dial; remove {each} or"
                " write udp://"
            )
    if server is not None and all(listened.scheme != "udp" for listened in server.listen):
        raise ConfigError(
            f"{where}: serve has no udp port to send from; add one, as in --listen {DEFAULT_UDP}"
        )
    return endpoints


def _preshared_key(given: Given, before: bytes | None) -> bytes | None:
    if given.no_psk and given.psk_file is not None:
        raise ConfigError("--no-psk: conflicts with --psk-file; give one of the two")
    if given.psk_file is not None:
        from fastun.session import keys  # noqa: PLC0415 (cryptography takes 0.1 s)

        return keys.load_private(given.psk_file)
    return None if given.no_psk else before


def _terms(terms: Terms, given: Given, server: Server | None, now: float) -> Terms:
    terms = structs.replace(
        terms, limit=_limit(terms.limit, given), quota=_quota(terms.quota, given)
    )
    if given.to:
        terms = structs.replace(terms, to=_to(given.to, server))
    if given.expire is not None:
        expires = None if given.expire == NEVER else parse_moment(given.expire, now, "expire")
        terms = structs.replace(terms, expires=expires)
    if given.note is not None:
        terms = structs.replace(terms, note=_note(given.note))
    return terms


def _rate(text: str, where: str) -> int | None:
    return None if text == NONE else parse_rate(text, where)


def _limit(limit: RateLimit, given: Given) -> RateLimit:
    if given.limit is not None:
        both = _rate(given.limit, "limit")
        # A burst was chosen for the rate that it came with.
        limit = RateLimit(outbound=both, inbound=both)
    if given.outbound is not None:
        limit = structs.replace(limit, outbound=_rate(given.outbound, "--outbound"))
    if given.inbound is not None:
        limit = structs.replace(limit, inbound=_rate(given.inbound, "--inbound"))
    if given.burst is not None:
        if limit.outbound is None and limit.inbound is None:
            raise ConfigError("--burst: the peer has no limit; give a rate too")
        burst = parse_size(given.burst, "--burst")
        if not BURST_MIN <= burst <= BURST_MAX:
            raise ConfigError(f"--burst: {given.burst} is out of range (3kB to 1GB)")
        limit = structs.replace(limit, burst_bytes=burst)
    return limit


def _quota(quota: Quota | None, given: Given) -> Quota | None:
    if given.quota is not None:
        size = None if given.quota == NONE else parse_size(given.quota, "quota")
        quota = None if size is None else Quota(month_bytes=size)
    if given.quota_then is not None:
        if quota is None:
            raise ConfigError("--then: the peer has no quota; give its size too")
        then_rate = _rate(given.quota_then, "--then") or 0
        quota = structs.replace(quota, then_rate=then_rate)
    return quota


def _to(texts: tuple[str, ...], server: Server | None) -> tuple[Network, ...]:
    if texts == (ALL,):
        return ()
    if server is not None and server.mode == "tap":
        raise ConfigError(
            f"to: {server.interface} carries Ethernet frames, whose destinations are not checked;"
            " use a server in tun mode"
        )
    networks = parse_networks(texts, "to")
    if len(networks) > TO_MAX:
        raise ConfigError(f"to: {len(networks)} networks; at most {TO_MAX}, use larger ones")
    return networks


def _note(text: str) -> str:
    if len(text) > NOTE_CHARS_MAX or not (text.isprintable() or not text):
        raise ConfigError(
            f"note: {quote(text[:40])} must be a line of at most {NOTE_CHARS_MAX} printable"
            " characters; shorten it"
        )
    return text
