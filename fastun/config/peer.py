"""What a peer's fields may be: its name, keys, allowed IPs, endpoints and keepalive.

The configuration file and the command line are read by the same rules. Each complaint starts with
the place that the caller gives, and none shows the text of a key.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from fastun import endpoint
from fastun.config.document import PeerSection, Secret
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers import prefixes
from fastun.peers.peer import Network, Peer, is_name

MAX_KEEPALIVE_S: Final = 65535  # WireGuard's field has 16 bits (wg(8), PersistentKeepalive).

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (to refuse them, not to bind)

# Makes the place of a field of one section, as in FILE: peer.NAME
Where = Callable[[str], str]


def parse_name(text: str, where: str) -> str:
    """Return `text` if it can name a peer."""
    if not is_name(text):
        raise ConfigError(
            f"{where}: {quote(text)} is not a valid peer name; use 1 to 64 letters, digits,"
            " . _ @ -, not beginning with . or -"
        )
    return text


def parse_allowed_ips(texts: Iterable[str], where: str) -> tuple[Network, ...]:
    """Return the prefixes; an address without a prefix length is that one host."""
    networks: dict[Network, None] = {}  # An ordered set.
    for text in texts:
        network = _network(text, where)
        if network in networks:
            raise ConfigError(f"{where}: {network} is listed twice; remove one")
        networks[network] = None
    return tuple(networks)


def _network(text: str, where: str) -> Network:
    try:
        prefix = prefixes.parse(text)
    except ValueError:
        raise ConfigError(
            f"{where}: {quote(text)} is not a prefix; write it as in 10.9.0.2/32 or fd00:9::/64"
        ) from None
    if prefix != prefix.without_host():
        host = ip_network(text.partition("/")[0])
        raise ConfigError(
            f"{where}: {text} has bits set beyond its prefix length; write {prefix.network()} for"
            f" the network, or {host} for this host"
        )
    return prefix.network()


def parse_keepalive(seconds: int, where: str) -> int:
    """Return `seconds` if it can be a keepalive interval."""
    if not 0 <= seconds <= MAX_KEEPALIVE_S:
        raise ConfigError(
            f"{where}: {seconds} is out of range (1-{MAX_KEEPALIVE_S} seconds, or 0 for off)"
        )
    return seconds


def parse_endpoint(text: str, where: str) -> Endpoint:
    """Return the endpoint that `text` spells."""
    try:
        return endpoint.parse(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def dialled_endpoint(text: str, where: str) -> Endpoint:
    """Return the endpoint that `text` spells if it can be dialled."""
    dialled = parse_endpoint(text, where)
    if is_wildcard(dialled):
        raise ConfigError(f"{where}: {dialled} cannot be dialled; name the host")
    return dialled


def is_wildcard(listened: Endpoint) -> bool:
    """Return whether `listened` is every address of its host, and names none to dial."""
    return listened.host in _WILDCARDS


def parse_endpoints(section: PeerSection, where: Where) -> tuple[Endpoint, ...]:
    """Return the endpoints of a `[[peer]]`, which has one in `endpoint` or several in `endpoints`.

    Raises ConfigError.
    """
    texts: tuple[str, ...]
    if section.endpoints is None:
        texts, place = (section.endpoint,) if section.endpoint is not None else (), "endpoint"
    elif section.endpoint is None:
        texts, place = section.endpoints, "endpoints"
    else:
        raise ConfigError(f"{where('endpoints')}: conflicts with endpoint; keep one of the two")
    return tuple(dialled_endpoint(text, where(place)) for text in texts)


def parse_secret(
    secret: Secret | None, file_name: str | None, where: Where, field: str, directory: Path
) -> bytes | None:
    """Return the key in `field` itself or in the file that FIELD_file names, or None.

    The file's name is relative to `directory`. Raises ConfigError, also for a file that others can
    read.
    """
    from fastun.session import keys  # noqa: PLC0415 (loads PyNaCl)

    if file_name is None:
        return keys.parse_key(secret.reveal(), where(field)) if secret else None
    place = where(f"{field}_file")
    if secret is not None:
        raise ConfigError(f"{place}: conflicts with {field}; keep one of the two")
    if not file_name or "\0" in file_name:
        raise ConfigError(f"{place}: {quote(file_name)} is not a path; name a file")
    try:
        return keys.load_private(directory / file_name)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def parse_peer(section: PeerSection, where: Where, directory: Path) -> Peer:
    """Return the peer of a `[[peer]]`. Raises ConfigError.

    The path of its key file is relative to `directory`.
    """
    from fastun.session import keys  # noqa: PLC0415 (loads PyNaCl)

    name = parse_name(section.name, where("name"))
    if section.public_key is None:
        raise ConfigError(
            f"{where('public_key')}: missing; run 'fastun pubkey' on the peer's host to derive it"
            " from its private key"
        )
    return Peer(
        name=name,
        public_key=keys.parse_public(section.public_key, where("public_key")),
        preshared_key=parse_secret(
            section.preshared_key, section.preshared_key_file, where, "preshared_key", directory
        ),
        allowed_ips=parse_allowed_ips(section.allowed_ips or (), where("allowed_ips")),
        endpoints=parse_endpoints(section, where),
        keepalive_s=parse_keepalive(section.keepalive or 0, where("keepalive")),
    )
