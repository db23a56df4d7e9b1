"""What a new client is given: one file that `fastun connect` takes as it is.

It is fastun's TOML, or for WireGuard's own programs a wg-quick file, also as a QR code to be
photographed off the terminal. It holds the client's private key, so `connect` refuses it where
others can read it.
"""

import contextlib
import io
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from msgspec import structs

from fastun.config import wg_quick, written
from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.config.full_tunnel import DEFAULTS
from fastun.config.host import ROUTING_ONLY
from fastun.config.peer import parse_name
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peers.peer import Address, Network

FORMATS: Final = ("toml", "wg-quick", "qr")

# 69 modules a side and a margin of 4 fit 80 columns, and 425 bytes the code (ISO/IEC 18004).
_QR_VERSION = 13

# A client behind NAT stays reachable: the value of wg(8), shorter than what routers forget after.
_KEEPALIVE_S = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What the file says. Keys are 32 bytes; `private_key` is None where the client has its own.

    fastun is pushed `dns`, servers and domains, and whether the server `takes_all`: those are only
    in the files of other programs.
    """

    name: str
    mode: str
    addresses: tuple[Address, ...]
    private_key: bytes | None = field(repr=False)
    preshared_key: bytes | None = field(repr=False)
    server_public_key: bytes
    server_endpoints: tuple[Endpoint, ...]
    server_networks: tuple[Network, ...]
    dns: tuple[str, ...] = ()
    takes_all: bool = False


def write(client: Client, file_format: str) -> str:
    """Return the text in one of FORMATS; ConfigError where the server is not for that one."""
    document = _document(client)
    if file_format == "toml":
        # Of a peer with a file of its own it is a section to add there.
        return _heading(client, "toml") + written.write(document).removeprefix("[interface]\n\n")
    text = wg_quick.write(_for_apps(document, client, file_format))
    return _qr(text) if file_format == "qr" else _heading(client, "conf") + _split(client) + text


def _heading(client: Client, suffix: str) -> str:
    if client.private_key is None:
        field = "private_key" if suffix == "toml" else "PrivateKey"
        return (
            f"# What {client.name} needs of this server. Its private key is its own: add this to\n"
            f"# the file that has it, or the key here as {field}. Keep the file at mode 0600.\n\n"
        )
    return (
        f"# The keys of {client.name}: keep the file at mode 0600, and use it on one host.\n"
        f"#     fastun connect {client.name}.{suffix}\n\n"
    )


def _split(client: Client) -> str:
    """Return a comment where the DNS servers are not for all names."""
    routed = [name for name in client.dns if name.startswith(ROUTING_ONLY)]
    if not routed:
        return ""
    return (
        f"# Split DNS ({', '.join(routed)}) needs fastun and systemd-resolved: with this file all\n"
        "# names are looked up at the servers below.\n\n"
    )


def _document(client: Client) -> Document:
    from fastun.session.keys import format_key  # noqa: PLC0415 (loads PyNaCl)

    endpoints = tuple(map(str, client.server_endpoints))
    return Document(
        interface=InterfaceSection(
            mode=client.mode,
            address=tuple(map(str, client.addresses)),
            private_key=_secret(client.private_key),
        ),
        peer=(
            PeerSection(
                name=_name_of_server(client.server_endpoints),
                endpoint=endpoints[0] if len(endpoints) == 1 else None,
                endpoints=endpoints if len(endpoints) > 1 else None,
                public_key=format_key(client.server_public_key),
                preshared_key=_secret(client.preshared_key),
                allowed_ips=tuple(map(str, client.server_networks)),
                keepalive=_KEEPALIVE_S,
            ),
        ),
    )


def _secret(key: bytes | None) -> Secret | None:
    from fastun.session.keys import format_key  # noqa: PLC0415 (cryptography takes 0.1 s)

    return None if key is None else Secret(format_key(key))


def _for_apps(document: Document, client: Client, file_format: str) -> Document:
    """Return the document with the one endpoint that plain WireGuard can dial."""
    if file_format == "qr" and client.private_key is None:
        raise ConfigError(
            "--format qr: the code has to contain the private key, which is not here; use"
            " another format"
        )
    if client.mode != "tun":
        raise ConfigError(
            f"--format {file_format}: WireGuard's own programs carry IP packets only, and the"
            " server's mode is tap; omit the option for fastun's TOML"
        )
    urls = [str(each) for each in client.server_endpoints if each.scheme == "udp"]
    if urls or not client.server_endpoints:
        url = urls[0] if urls else None
        peer = structs.replace(document.peer[0], endpoint=url, endpoints=None)
        if client.takes_all:
            peer = structs.replace(peer, allowed_ips=tuple(map(str, DEFAULTS)))
        dns = tuple(each for each in client.dns if not each.startswith(ROUTING_ONLY))
        interface = structs.replace(document.interface, dns=dns)
        return structs.replace(document, interface=interface, peer=(peer,))
    raise ConfigError(
        f"--format {file_format}: WireGuard's own programs dial udp only, and clients reach this"
        " server over tcp; give --endpoint udp://HOST as well, where serve listens on it"
    )


def _qr(text: str) -> str:
    """Return the code of `text`, two modules a character, light on dark as scanners want it."""
    import segno  # noqa: PLC0415 (for this command only)

    drawn = io.StringIO()
    try:
        code = segno.make_qr(text, error="l", version=_QR_VERSION)
    except segno.DataOverflowError:
        raise ConfigError(
            "--format qr: the file is too long for a code of 80 columns; use --format wg-quick"
        ) from None
    code.terminal(drawn, compact=True)
    encoding = sys.stdout.encoding
    try:
        drawn.getvalue().encode(encoding)
    except UnicodeEncodeError:
        raise ConfigError(
            f"--format qr: {encoding}, the encoding of stdout, has no signs for the code; set"
            " LC_ALL=C.UTF-8, or use --format wg-quick"
        ) from None
    if not sys.stdout.isatty():
        return drawn.getvalue()
    # A terminal may be dark on light.
    return "".join(f"\x1b[97;40m{line}\x1b[0m\n" for line in drawn.getvalue().splitlines())


def _name_of_server(endpoints: tuple[Endpoint, ...]) -> str:
    """Return the host's name, if it has one: a metric's label is never an address."""
    if not endpoints:
        return "server"
    host = endpoints[0].host
    try:
        ip_address(host)
    except ValueError:
        with contextlib.suppress(ConfigError):  # A name can be longer than a peer's may.
            return parse_name(host, "endpoint")
    return "server"
