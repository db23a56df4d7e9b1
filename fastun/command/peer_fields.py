"""What commands take of a peer, how it becomes one, and how its file is to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fastun.command.client_file import FORMATS
from fastun.command.options import PATH
from fastun.config import networks, terms
from fastun.config.links import DEFAULT_UDP
from fastun.config.networks import parse_networks, split
from fastun.config.peer import dialled_endpoint, parse_keepalive
from fastun.config.terms import NONE, TermsText
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Network, Peer, Server

_OPTIONS = (
    click.option(
        "--allowed-ips",
        multiple=True,
        metavar="CIDR",
        help="Network behind the peer; repeatable or comma-separated.",
    ),
    click.option(
        "--peer-endpoint",
        multiple=True,
        metavar="URL",
        help="Where to reach the peer, udp://HOST[:PORT]; repeatable.",
    ),
    click.option(
        "--keepalive",
        type=int,
        metavar="SECONDS",
        help="Keepalive interval; 0 turns keepalives off.",
    ),
    click.option(
        "--psk-file",
        type=PATH,
        metavar="FILE",
        help="File with the pre-shared key that both ends use.",
    ),
    click.option("--no-psk", is_flag=True, help="Use no pre-shared key."),
    click.option(
        "--expire",
        "expires",
        metavar="WHEN",
        help="When its access ends: a date, a duration such as 30d, or never.",
    ),
    click.option(
        "--limit",
        metavar="RATE",
        help="Rate limit in each direction, such as 10Mbit; or none.",
    ),
    click.option(
        "--quota",
        metavar="SIZE",
        help="Monthly traffic limit, both directions combined, such as 50GB; or none.",
    ),
    click.option(
        "--to",
        multiple=True,
        metavar="CIDR",
        help="Network that the peer may reach; repeatable or comma-separated.  [default: all]",
    ),
    click.option("--note", metavar="TEXT", help="Free-text note about the peer."),
)

# Of the commands that print a client's file.
endpoint_option = click.option(
    "--endpoint",
    multiple=True,
    metavar="URL",
    help="Where clients reach this server; repeatable. Remembered as the default.",
)
format_option = click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="toml",
    show_default=True,
    help="toml for fastun; wg-quick or a QR code for WireGuard apps.",
)

# The fields of Given that have an option of their own name.
OPTION_NAMES: Final = (
    "allowed_ips",
    "peer_endpoint",
    "keepalive",
    "psk_file",
    "no_psk",
    "expires",
    "limit",
    "quota",
    "to",
    "note",
)


class Given(TermsText, frozen=True, kw_only=True):
    """What was given of a peer; None and empty leave it as it is. The texts are unchecked."""

    allowed_ips: tuple[str, ...] = ()
    peer_endpoint: tuple[str, ...] = ()
    keepalive: int | None = None
    psk_file: Path | None = None
    no_psk: bool = False


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
        terms=terms.changed(
            peer.terms, given, _place, mode=server.mode if server else "tun", now=now
        ),
    )


# Fields that are an argument of a command as well are called as it is.
_PLACES: Final = {
    "outbound": "--outbound",
    "inbound": "--inbound",
    "burst": "--burst",
    "quota_then": "--then",
    "expires": "expire",
}


def _place(field: str) -> str:
    return _PLACES.get(field, field)


def remarks(given: Given) -> list[str]:
    """Return what is valid of the networks given, and hardly meant: a line each."""
    return [
        *networks.remarks(split(given.allowed_ips), "--allowed-ips"),
        *networks.remarks(split(given.to), "to"),
    ]


def _allowed_ips(given: Given, before: tuple[Network, ...]) -> tuple[Network, ...]:
    if not given.allowed_ips:
        return before
    if given.allowed_ips == (NONE,):
        return ()
    return parse_networks(split(given.allowed_ips), "--allowed-ips")


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
