"""The keys of this side and of its peers, as far as the wire has any.

On the wireguard wire a peer is known by its key, and either side has any number, though `connect`
only one over tcp. The unencrypted wires have no keys: there the other end has a name for the
metrics, and what would protect a link is refused, because it would not.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from fastun.config.document import PeerSection
from fastun.config.peer import dialled_endpoint, parse_name, parse_peer, parse_secret
from fastun.config.sources import Sources
from fastun.errors import ConfigError
from fastun.peers.peer import Address, Peer, check_together
from fastun.vocabulary import Mode

_CLIENT_FILE = "the file that 'fastun peer add NAME' prints on the server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The other end's name, and on the wireguard wire our key and our peers.

    `private_key` None: it is in the state directory.
    """

    peer_name: str
    private_key: bytes | None = field(default=None, repr=False)
    peers: tuple[Peer, ...] = ()


# -- the wireguard wire -----------------------------------------------------------------------


def of_server(sources: Sources, addresses: tuple[Address, ...], *, mode: Mode) -> Identity:
    """Return the keys and peers of `serve`, whose device has `addresses`; raise ConfigError."""
    if sources.document.interface.accept is not None:
        place = sources.where("interface.accept")
        raise ConfigError(f"{place}: 'accept' applies only to connect; remove it")
    private_key = _private_key(sources)
    peers = _peers(sources, private_key, addresses, mode=mode)
    return Identity(peer_name=PeerSection().name, private_key=private_key, peers=peers)


def of_client(sources: Sources, addresses: tuple[Address, ...], *, mode: Mode) -> Identity:
    """Return the key of `connect` and the peers that it dials; raise ConfigError."""
    if sources.document.push is not None:
        raise ConfigError(f"{sources.where('push')}: 'push' applies only to serve; remove it")
    url = sources.url
    dialled = None if url is None else dialled_endpoint(url, "endpoint")
    if not sources.peers:
        if sources.document.peer:
            place = sources.where("peer")
            raise ConfigError(f"{place}: none is enabled; set enabled = true in the one to dial")
        if dialled is None:
            place = sources.where("peer") if sources.path else "endpoint"
            raise ConfigError(f"{place}: missing; give {_CLIENT_FILE}")
        raise ConfigError(f"endpoint: the public key of {dialled} is unknown; give {_CLIENT_FILE}")
    _refuse_servers_terms(sources)
    private_key = _private_key(sources)
    peers = _peers(sources, private_key, addresses, mode=mode)
    if dialled is not None:
        if len(peers) > 1:
            raise ConfigError(f"endpoint: {sources.path} has several peers; set it there")
        peers = (replace(peers[0], endpoints=(dialled,)),)
    return Identity(peer_name=peers[0].name, private_key=private_key, peers=peers)


def _refuse_servers_terms(sources: Sources) -> None:
    """Raise ConfigError where `connect` is to end a peer's access, or to count what it uses."""
    for index, section in enumerate(sources.peers):
        for name in ("expires", "quota"):
            if getattr(section, name) is not None:
                place = sources.in_peer(index)(name)
                raise ConfigError(f"{place}: {name!r} applies only to serve; remove it")


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
    sources: Sources, private_key: bytes | None, own: tuple[Address, ...], *, mode: Mode
) -> tuple[Peer, ...]:
    peers = tuple(
        parse_peer(section, sources.in_peer(index), sources.directory, mode)
        for index, section in enumerate(sources.peers)
    )
    for index, section in enumerate(sources.document.peer):
        # WireGuard takes a peer without any: it may connect, and nothing is routed to it. In TOML
        # that has to be said, because it is usually forgotten.
        if mode == "tun" and section.allowed_ips is None and not sources.is_wg_quick:
            place = sources.in_peer(index)("allowed_ips")
            raise ConfigError(
                f"{place}: missing; list the addresses behind this peer, as in 10.9.0.2/32, or []"
                " for none"
            )
    try:
        check_together(peers, own)
    except ConfigError as error:
        raise ConfigError(f"{sources.where('peer')}: {error}") from None
    if private_key is not None:
        _refuse_itself(sources, peers, private_key)
    return peers


def _refuse_itself(sources: Sources, peers: tuple[Peer, ...], private_key: bytes) -> None:
    from fastun.session import keys  # noqa: PLC0415 (loads PyNaCl)

    own = keys.public_of(private_key)
    for index, peer in enumerate(peers):
        if peer.public_key in (own, private_key):
            place, kind = sources.in_peer(index)("public_key"), "public"
            if peer.public_key == private_key:
                kind = "private"
            raise ConfigError(f"{place}: this is our own {kind} key; use the peer's public key")


# -- the unencrypted wires --------------------------------------------------------------------


def of_insecure_peer(sources: Sources, wire: str) -> Identity:
    """Return the name that the other end has in the metrics; raise ConfigError."""
    return Identity(peer_name=_nameless(sources, wire).name)


_NAMELESS: Final = ("name", "enabled", "endpoint", "endpoints")


def _nameless(sources: Sources, wire: str) -> PeerSection:
    """Return the one `[[peer]]`, or its defaults, when nothing there asks for protection."""
    interface, peers = sources.document.interface, sources.peers
    if sources.document.push is not None:
        _refuse_useless(sources.where("push"), wire)
    for name in ("private_key", "private_key_file", "accept", "listen_port", "table"):
        if getattr(interface, name) is not None:
            _refuse_useless(sources.where(f"interface.{name}"), wire)
    if sources.options.all_traffic:
        _refuse_useless("--all", wire)
    if len(peers) > 1:
        raise ConfigError(
            f"{sources.where('peer')}: the {wire} wire allows only one peer; keep one"
        )
    peer = peers[0] if peers else PeerSection()
    for name in peer.__struct_fields__:
        if name not in _NAMELESS and getattr(peer, name) is not None:
            _refuse_useless(sources.where(f"peer.{name}"), wire)
    parse_name(peer.name, sources.where("peer.name"))
    return peer


def _refuse_useless(place: str, wire: str) -> None:
    raise ConfigError(
        f"{place}: has no effect on the {wire} wire, which has no keys and no protection;"
        " remove it, or use the wireguard wire"
    )
