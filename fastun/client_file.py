"""What a new client is given: one file that `fastun connect` takes as it is.

It holds the client's private key, so `connect` refuses it where others can read it.
"""

import contextlib
from dataclasses import dataclass, field
from ipaddress import ip_address

from fastun import document as toml
from fastun.document import Document, InterfaceSection, PeerSection, Secret
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peer_fields import parse_name
from fastun.peers import Address, Network

# A client behind NAT stays reachable: the value of wg(8), shorter than what routers forget after.
_KEEPALIVE_S = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the file says. Keys are 32 bytes."""

    name: str
    mode: str
    addresses: tuple[Address, ...]
    private_key: bytes = field(repr=False)
    preshared_key: bytes = field(repr=False)
    server_public_key: bytes
    server_endpoints: tuple[Endpoint, ...]
    server_networks: tuple[Network, ...]


def write(client: Client) -> str:
    """Return the file's text, TOML."""
    from fastun.session.keys import format_key  # noqa: PLC0415 (cryptography takes 0.1 s)

    endpoints = tuple(map(str, client.server_endpoints))
    document = Document(
        interface=InterfaceSection(
            mode=client.mode,
            address=tuple(map(str, client.addresses)),
            private_key=Secret(format_key(client.private_key)),
        ),
        peer=(
            PeerSection(
                name=_name_of_server(client.server_endpoints),
                endpoint=endpoints[0] if len(endpoints) == 1 else None,
                endpoints=endpoints if len(endpoints) > 1 else None,
                public_key=format_key(client.server_public_key),
                preshared_key=Secret(format_key(client.preshared_key)),
                allowed_ips=tuple(map(str, client.server_networks)),
                keepalive=_KEEPALIVE_S,
            ),
        ),
    )
    return (
        f"# The keys of {client.name}: keep the file at mode 0600, and use it on one host.\n"
        f"#     fastun connect {client.name}.toml\n\n{toml.write(document)}"
    )


def _name_of_server(endpoints: tuple[Endpoint, ...]) -> str:
    """Return the host's name, if it has one: a metric's label is never an address."""
    host = endpoints[0].host
    try:
        ip_address(host)
    except ValueError:
        with contextlib.suppress(ConfigError):  # A name can be longer than a peer's may.
            return parse_name(host, "endpoint")
    return "server"
