"""The keys of this side and of its peers, as far as the wire has any.

On the wireguard wire a peer is known by its key, and either side has any number, though `connect`
only one over tcp. The unencrypted wires have no keys: there the other end has a name for the
metrics, and what would protect a link is refused, because it would not.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from fastun.config import links
from fastun.config.document import PeerSection, PushSection
from fastun.config.host import parse_dns
from fastun.config.interface import MTU_RANGE
from fastun.config.peer import (
    dialled_endpoint,
    parse_allowed_ips,
    parse_keepalive,
    parse_name,
    parse_peer,
    parse_secret,
)
from fastun.config.sources import Sources
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.link import push
from fastun.link.push import Push
from fastun.peers.peer import Address, Network, Peer, check_together

Accept = Literal["addresses", "routes", "dns", "mtu"]
ACCEPTABLE: Final[tuple[Accept, ...]] = get_args(Accept)

_CLIENT_FILE = "the file that 'fastun peer add NAME' prints on the server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What `serve` gives its clients; `dns` has servers and domains, `keepalive_s` 0 is off."""

    routes: tuple[Network, ...] = ()
    dns: tuple[str, ...] = ()
    keepalive_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`private_key` None: it is in the state directory.

    `listen` is where `serve` waits, `endpoints` what `connect` dials, of all peers in their order.
    """

    peer_name: str
    listen: tuple[Endpoint, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    private_key: bytes | None = field(default=None, repr=False)
    peers: tuple[Peer, ...] = ()
    accept: tuple[Accept, ...] = ()
    push: Pushed = Pushed()


# -- the wireguard wire -----------------------------------------------------------------------


def of_server(sources: Sources, addresses: tuple[Address, ...], *, routes_ip: bool) -> Identity:
    """Return the keys and peers of `serve`, whose device has `addresses`; raise ConfigError."""
    listen = links.listened(sources, "wireguard")
    if sources.document.interface.accept is not None:
        place = sources.where("interface.accept")
        raise ConfigError(f"{place}: 'accept' applies only to connect; remove it")
    private_key = _private_key(sources)
    peers = _peers(sources, private_key, addresses, routes_ip=routes_ip)
    links.check_sites(sources, peers, listen)
    return Identity(
        peer_name=PeerSection().name,
        listen=listen,
        private_key=private_key,
        peers=peers,
        push=_pushed(sources, addresses, listen),
    )


def of_client(sources: Sources, addresses: tuple[Address, ...], *, routes_ip: bool) -> Identity:
    """Return the key of `connect` and the peers that it dials; raise ConfigError."""
    links.refuse_listening(sources)
    if sources.document.push is not None:
        raise ConfigError(f"{sources.where('push')}: 'push' applies only to serve; remove it")
    url = sources.url
    dialled = None if url is None else dialled_endpoint(url, "endpoint")
    if not sources.document.peer:
        if dialled is None:
            place = sources.where("peer") if sources.path else "endpoint"
            raise ConfigError(f"{place}: missing; give {_CLIENT_FILE}")
        raise ConfigError(f"endpoint: the public key of {dialled} is unknown; give {_CLIENT_FILE}")
    private_key = _private_key(sources)
    peers = _peers(sources, private_key, addresses, routes_ip=routes_ip)
    if dialled is not None:
        if len(peers) > 1:
            raise ConfigError(f"endpoint: {sources.path} has several peers; set it there")
        peers = (replace(peers[0], endpoints=(dialled,)),)
    links.check_dialled(sources, peers)
    return Identity(
        peer_name=peers[0].name,
        endpoints=tuple(endpoint for peer in peers for endpoint in peer.endpoints),
        private_key=private_key,
        peers=peers,
        accept=_accept(sources),
    )


def _private_key(sources: Sources) -> bytes | None:
    section = sources.document.interface
    return parse_secret(
        section.private_key,
        section.private_key_file,
        lambda name: sources.where(f"interface.{name}"),
        "private_key",
        sources.directory,
    )


def _peers(
    sources: Sources, private_key: bytes | None, own: tuple[Address, ...], *, routes_ip: bool
) -> tuple[Peer, ...]:
    peers = tuple(
        parse_peer(section, sources.in_peer(index), sources.directory)
        for index, section in enumerate(sources.document.peer)
    )
    for index, peer in enumerate(peers):
        if routes_ip and not peer.allowed_ips:
            place = sources.in_peer(index)("allowed_ips")
            raise ConfigError(
                f"{place}: missing; list the addresses behind this peer, as in 10.9.0.2/32"
            )
    try:
        check_together(peers, own)
    except ConfigError as error:
        raise ConfigError(f"{sources.where('peer')}: {error}") from None
    if private_key is not None:
        _refuse_itself(sources, peers, private_key)
    return peers


def _refuse_itself(sources: Sources, peers: tuple[Peer, ...], private_key: bytes) -> None:
    from fastun.session import keys  # noqa: PLC0415 (cryptography takes 0.1 s)

    own = keys.public_of(private_key)
    for index, peer in enumerate(peers):
        if peer.public_key == own:
            place = sources.in_peer(index)("public_key")
            raise ConfigError(f"{place}: this is our own public key; use the peer's")


def _pushed(
    sources: Sources, addresses: tuple[Address, ...], listen: tuple[Endpoint, ...]
) -> Pushed:
    section = sources.document.push or PushSection()
    servers, domains = parse_dns(section.dns, sources.where("push.dns"), has_zones=False)
    pushed = Pushed(
        routes=parse_allowed_ips(section.routes, sources.where("push.routes")),
        dns=servers + domains,
        keepalive_s=parse_keepalive(section.keepalive, sources.where("push.keepalive")),
    )
    _check_fits(sources, pushed, addresses, listen)
    return pushed


def _check_fits(
    sources: Sources, pushed: Pushed, addresses: tuple[Address, ...], listen: tuple[Endpoint, ...]
) -> None:
    """Raise ConfigError if the push for a client with an address in each network does not fit."""
    own = push.routes_of(addresses, ())
    longest = Push(
        addresses=push.longest_addresses(addresses),
        routes=push.routes_of(addresses, pushed.routes),
        dns=pushed.dns,
        mtu=MTU_RANGE[-1],
        keepalive=pushed.keepalive_s,
    )
    push.check_fits(longest, push.room_for(listen), len(own), sources.where)


def _accept(sources: Sources) -> tuple[Accept, ...]:
    """Return what to apply of what the server pushes.

    By default what this side does not say itself, and routes. Never DNS unasked: it would send all
    names that this host looks up to the server's operator.
    """
    options, section = sources.options, sources.document.interface
    if section.accept is None:
        says = {
            "addresses": bool(options.address or section.address),
            "mtu": options.mtu is not None or section.mtu is not None,
            "routes": section.table == "off",
            "dns": True,
        }
        return tuple(word for word in ACCEPTABLE if not says.get(word))
    for word in section.accept:
        if word not in ACCEPTABLE:
            place = sources.where("interface.accept")
            raise ConfigError(f"{place}: {quote(word)} is not one of {', '.join(ACCEPTABLE)}")
    return tuple(word for word in ACCEPTABLE if word in section.accept)


# -- the unencrypted wires --------------------------------------------------------------------


def of_insecure_server(sources: Sources, wire: str) -> Identity:
    """Return the name that the other end has in the metrics; raise ConfigError."""
    links.refuse_dialling(sources)
    section = _nameless(sources, wire)
    return Identity(peer_name=section.name, listen=links.listened(sources, wire))


def of_insecure_client(sources: Sources, wire: str) -> Identity:
    """Return the other end's name and where it is dialled; raise ConfigError."""
    links.refuse_listening(sources)
    section = _nameless(sources, wire)
    endpoints = links.dialled_insecurely(sources, wire)
    return Identity(peer_name=section.name, endpoints=endpoints)


def _nameless(sources: Sources, wire: str) -> PeerSection:
    """Return the one `[[peer]]`, or its defaults, when nothing there asks for protection."""
    interface, peers = sources.document.interface, sources.document.peer
    if sources.document.push is not None:
        _refuse_useless(sources.where("push"), wire)
    for name in ("private_key", "private_key_file", "accept", "listen_port", "table"):
        if getattr(interface, name) is not None:
            _refuse_useless(sources.where(f"interface.{name}"), wire)
    if len(peers) > 1:
        raise ConfigError(
            f"{sources.where('peer')}: the {wire} wire allows only one peer; keep one"
        )
    peer = peers[0] if peers else PeerSection()
    for name in ("public_key", "preshared_key", "preshared_key_file", "allowed_ips", "keepalive"):
        if getattr(peer, name) is not None:
            _refuse_useless(sources.where(f"peer.{name}"), wire)
    parse_name(peer.name, sources.where("peer.name"))
    return peer


def _refuse_useless(place: str, wire: str) -> None:
    raise ConfigError(
        f"{place}: has no effect on the {wire} wire, which has no keys and no protection;"
        " remove it, or use the wireguard wire"
    )
