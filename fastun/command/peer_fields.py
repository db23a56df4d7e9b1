"""What `peer add` and `peer set` take of a peer, and how it becomes one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fastun.command.options import PATH
from fastun.config.links import DEFAULT_UDP
from fastun.config.peer import dialled_endpoint, parse_allowed_ips, parse_keepalive
from fastun.config.quantity import parse_moment
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Network, Peer, Server
    from fastun.peers.terms import Terms

NONE: Final = "none"
NEVER: Final = "never"

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
    click.option("--note", metavar="TEXT", help="A line of your own about it."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was given of a peer; None and empty leave it as it is. The texts are unchecked."""

    allowed_ips: tuple[str, ...] = ()
    peer_endpoint: tuple[str, ...] = ()
    keepalive: int | None = None
    psk_file: Path | None = None
    no_psk: bool = False
    expire: str | None = None
    note: str | None = None


NOTHING: Final = Given()


def peer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` these options; it is called with `given`."""
    import functools  # noqa: PLC0415 (for this one only)

    names = Given.__dataclass_fields__

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
        terms=_terms(peer.terms, given, now),
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


def _terms(terms: Terms, given: Given, now: float) -> Terms:
    if given.expire is not None:
        expires = None if given.expire == NEVER else parse_moment(given.expire, now, "expire")
        terms = replace(terms, expires=expires)
    if given.note is not None:
        terms = replace(terms, note=_note(given.note))
    return terms


def _note(text: str) -> str:
    if len(text) > NOTE_CHARS_MAX or not (text.isprintable() or not text):
        raise ConfigError(
            f"note: {quote(text[:40])} must be a line of at most {NOTE_CHARS_MAX} printable"
            " characters; shorten it"
        )
    return text
