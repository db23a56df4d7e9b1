"""Where a side listens and dials: which endpoints it may have, and which by default.

A udp link is a pair of addresses: either side of it may begin, and one socket is enough for many.
A tcp link is dialled by `connect`, which has one, and accepted by `serve`. The unencrypted wires
are streams only: a datagram's sender can be forged, which those wires could not detect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.config.document import ListenSection
from fastun.config.peer import dialled_endpoint, parse_endpoint, parse_endpoints
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.config.sources import Sources
    from fastun.endpoint import Endpoint
    from fastun.peers.peer import Peer

# WireGuard's port, and the original simpletun's.
DEFAULT_UDP: Final = "udp://[::]:51820"
DEFAULT_TCP: Final = "tcp://[::]:55555"

_MISSING = "missing; give the URL to dial, as in"


# -- serve ------------------------------------------------------------------------------------


def listened(sources: Sources, wire: str) -> tuple[Endpoint, ...]:
    """Return where `serve` listens; raise ConfigError."""
    endpoints: list[Endpoint] = []
    for text, where in _listened_texts(sources, wire):
        endpoint = parse_endpoint(text, where)
        if endpoint in endpoints:
            raise ConfigError(f"{where}: {endpoint} is listed twice; remove one")
        _check_wire(endpoint, wire, where)
        endpoints.append(endpoint)
    return tuple(endpoints)


def _listened_texts(sources: Sources, wire: str) -> Iterator[tuple[str, str]]:
    """Yield the URLs, and where each was written."""
    section = sources.document.listen or ListenSection()
    if sources.options.listen:
        yield from ((text, "--listen") for text in sources.options.listen)
    elif sources.is_wg_quick:
        port = sources.document.interface.listen_port
        place = sources.where("interface.listen_port")
        yield f"udp://[::]:{port}" if port else DEFAULT_UDP, place
    elif section.udp is None and section.tcp is None:
        if wire == "wireguard":
            yield DEFAULT_UDP, "--listen"
        yield DEFAULT_TCP, "--listen"
    else:
        if not (section.udp or section.tcp):
            place = sources.where("listen.udp" if section.tcp is None else "listen.tcp")
            default = DEFAULT_UDP if section.tcp is None else DEFAULT_TCP
            raise ConfigError(f"{place}: nothing to listen on; write {default}")
        for scheme, texts in (("udp", section.udp), ("tcp", section.tcp)):
            place = sources.where(f"listen.{scheme}")
            for text in texts or ():
                if (other := parse_endpoint(text, place, scheme).scheme) != scheme:
                    raise ConfigError(f"{place}: {text}: belongs in listen.{other}")
                yield text, place


def check_sites(sources: Sources, peers: tuple[Peer, ...], listen: tuple[Endpoint, ...]) -> None:
    """Raise ConfigError where `serve`, which has `listen`, could not dial one of its peers."""
    is_udp = any(endpoint.scheme == "udp" for endpoint in listen)
    for index, peer in enumerate(peers):
        for endpoint in peer.endpoints:
            place = _place(sources, index)
            if endpoint.scheme != "udp":
                raise ConfigError(
                    f"{place}: serve only accepts TCP connections, it does not dial;"
                    f" remove {endpoint}, write udp://, or use connect"
                )
            if not is_udp:
                raise ConfigError(
                    f"{place}: serve has no udp port to send from; add one, as in"
                    f" --listen {DEFAULT_UDP}"
                )


def refuse_dialling(sources: Sources) -> None:
    """Raise ConfigError if an unencrypted `serve` is to dial."""
    for index, section in enumerate(sources.peers):
        if section.endpoint is not None or section.endpoints is not None:
            place = _place(sources, index)
            raise ConfigError(
                f"{place}: serve only accepts TCP connections, it does not dial; remove it,"
                " or use connect"
            )


# -- connect ----------------------------------------------------------------------------------


def refuse_listening(sources: Sources) -> None:
    """Raise ConfigError if `connect` is to listen."""
    if sources.document.listen is not None:
        raise ConfigError(f"{sources.where('listen')}: 'listen' applies only to serve; remove it")


def check_dialled(sources: Sources, peers: tuple[Peer, ...]) -> None:
    """Raise ConfigError where `connect` has no peer to dial, or more than it can."""
    if not any(peer.endpoints for peer in peers):
        raise ConfigError(f"{_place(sources, 0)}: {_MISSING} udp://vpn.example.net:51820")
    if len(peers) == 1:
        return
    for index, peer in enumerate(peers):
        for endpoint in peer.endpoints:
            if endpoint.scheme == "tcp":
                raise ConfigError(
                    f"{_place(sources, index)}: {endpoint}: connect dials only one peer over tcp;"
                    " keep one [[peer]], or write udp://"
                )


def dialled_insecurely(sources: Sources, wire: str) -> tuple[Endpoint, ...]:
    """Return the one endpoint that `connect` dials on an unencrypted wire; raise ConfigError."""
    if sources.url is not None:
        place = "endpoint"
        endpoints: tuple[Endpoint, ...] = (dialled_endpoint(sources.url, place),)
    elif sources.peers:
        place = _place(sources, 0)
        endpoints = parse_endpoints(sources.peers[0], sources.in_peer(0))
    else:
        place = sources.where("peer.endpoint") if sources.path else "endpoint"
        endpoints = ()
    if len(endpoints) > 1:
        raise ConfigError(f"{place}: the {wire} wire has one endpoint; keep one")
    if not endpoints:
        raise ConfigError(f"{place}: {_MISSING} tcp://vpn.example.net:55555")
    _check_wire(endpoints[0], wire, place)
    return endpoints


# -- both -------------------------------------------------------------------------------------


def _check_wire(endpoint: Endpoint, wire: str, where: str) -> None:
    if endpoint.scheme == "udp" and wire != "wireguard":
        raise ConfigError(
            f"{where}: {endpoint}: the {wire} wire is for tcp only; write tcp://, or use the"
            " wireguard wire"
        )


def _place(sources: Sources, index: int) -> str:
    """Return the place of the endpoints of a `[[peer]]`, whether there are any or not."""
    section = sources.peers[index]
    return sources.in_peer(index)("endpoint" if section.endpoints is None else "endpoints")
