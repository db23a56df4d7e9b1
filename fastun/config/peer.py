"""What a peer's fields may be: its name, keys, allowed IPs, endpoints and keepalive.

The configuration file and the command line are read by the same rules. Each complaint starts with
the place that the caller gives, and none shows the text of a key.
"""

from collections.abc import Callable
from pathlib import Path

from fastun import endpoint, private_file
from fastun.config import terms
from fastun.config.document import LimitTable, PeerSection, QuotaTable, Secret
from fastun.config.networks import parse_networks
from fastun.config.ranges import FAIL_BACK_S, KEEPALIVE_MAX_S
from fastun.config.vocabulary import ENDPOINT_ORDERS, EndpointOrder, one_of
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers.peer import Peer, is_name
from fastun.peers.terms import USUAL, Terms
from fastun.vocabulary import Mode

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


def parse_keepalive(seconds: int, where: str) -> int:
    """Return `seconds` if it can be a keepalive interval."""
    if not 0 <= seconds <= KEEPALIVE_MAX_S:
        raise ConfigError(
            f"{where}: {seconds} is out of range (1-{KEEPALIVE_MAX_S} seconds, or 0 for off)"
        )
    return seconds


def parse_endpoint(text: str, where: str, meant: str = "tcp") -> Endpoint:
    """Return the endpoint that `text` spells; `meant` is the scheme where it has none."""
    try:
        return endpoint.parse(text, meant)
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

    The file's name is relative to `directory`, or begins with $CREDENTIALS_DIRECTORY/. Raises
    ConfigError, also for a file that others can read.
    """
    from fastun.session import keys  # noqa: PLC0415 (loads PyNaCl)

    if file_name is None:
        return keys.parse_key(secret.reveal(), where(field)) if secret else None
    place = where(f"{field}_file")
    if secret is not None:
        raise ConfigError(f"{place}: conflicts with {field}; keep one of the two")
    if not file_name or "\0" in file_name:
        raise ConfigError(f"{place}: {quote(file_name)} is not a path; name a file")
    path = directory / file_name
    prefix = f"${private_file.CREDENTIALS}/"
    if file_name.startswith(prefix):
        given = private_file.credentials()
        if given is None:
            raise ConfigError(
                f"{place}: this start has no credentials; give it some by LoadCredential= in the"
                " unit, or name a file"
            )
        path = given / file_name.removeprefix(prefix)
    try:
        return keys.load_private(path)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def parse_peer(section: PeerSection, where: Where, directory: Path, mode: Mode) -> Peer:
    """Return the peer of a `[[peer]]`. Raises ConfigError.

    The path of its key file is relative to `directory`; `mode` is the device's.
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
        allowed_ips=parse_networks(section.allowed_ips or (), where("allowed_ips")),
        endpoints=parse_endpoints(section, where),
        endpoint_order=_order(section.endpoint_order, where),
        fail_back_s=_fail_back(section.fail_back or 0, where),
        keepalive_s=parse_keepalive(section.keepalive or 0, where("keepalive")),
        terms=_terms(section, where, mode),
    )


def _order(text: str | None, where: Where) -> EndpointOrder:
    return "listed" if text is None else one_of(ENDPOINT_ORDERS, text, where("endpoint_order"))


def _fail_back(seconds: int, where: Where) -> int:
    least, most = FAIL_BACK_S
    if seconds and not least <= seconds <= most:
        raise ConfigError(
            f"{where('fail_back')}: {seconds} is out of range ({least}-{most} seconds, or 0 for"
            " never)"
        )
    return seconds


def _terms(section: PeerSection, where: Where, mode: Mode) -> Terms:
    """Return the terms of a `[[peer]]`: each in a field, or in a table of its own below."""
    limit, quota = section.limit, section.quota
    rates = limit if isinstance(limit, LimitTable) else LimitTable()
    sizes = quota if isinstance(quota, QuotaTable) else QuotaTable()
    places = {
        "outbound": "limit.outbound",
        "inbound": "limit.inbound",
        "burst": "limit.burst",
        "quota": "quota" if quota is not sizes else "quota.size",
        "quota_then": "quota.then",
    }
    text = terms.TermsText(
        expires=section.expires,
        limit=limit if isinstance(limit, str) else None,
        outbound=rates.outbound,
        inbound=rates.inbound,
        burst=rates.burst,
        quota=quota if isinstance(quota, str) else sizes.size,
        quota_then=sizes.then,
        to=section.to or (),
        note=section.note,
    )
    return terms.changed(
        USUAL, text, lambda field: where(places.get(field, field)), mode=mode, now=None
    )
