"""A server that listens somewhere, a client that dials it, and a client of no server at all.

For tests whose network is their subject; `start_tunnel` does for those that want any tunnel.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastun.lab.host import wait_until
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    SERVER_ADDRESSES,
    GatewayProcess,
    Transport,
    Tunnel,
    add_peer,
    start_gateway,
)
from fastun.session import keys
from tests.support.name_server import resolv_conf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

# A name of the server, and where its DNS server is: an address of the server's that only its
# client's default route leads to.
NAME, DNS = "vpn.example.net", "203.0.113.53"

# A client with a default route, of a server that never answers.
ALONE = f"""
[Interface]
PrivateKey = {keys.format_key(keys.generate_private())}
Address = 10.9.0.2/24, fd00:9::2/64
[Peer]
PublicKey = {keys.format_key(keys.public_of(keys.generate_private()))}
Endpoint = 198.51.100.1:51820
AllowedIPs = 0.0.0.0/0, ::/0, 10.7.0.0/16
"""


@contextmanager
def wired_with_dns(
    lab: Lab, server_cidrs: Sequence[str], client_cidrs: Sequence[str]
) -> Iterator[tuple[Host, Host]]:
    """Wire a server and a client, whose resolver asks DNS; nothing answers there yet."""
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, server_cidrs, client_cidrs)
    server.ip("address", "add", DNS, "dev", "lo")
    client.ip("route", "add", "default", "via", server_cidrs[0].partition("/")[0])
    with resolv_conf(client, DNS):
        yield server, client


def serve(server: Host, directory: Path, *urls: str) -> GatewayProcess:
    """Start `fastun serve` that listens at these; it is not up yet."""
    listen = [word for url in urls for word in ("--listen", url)]
    return start_gateway(
        server, directory, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
    )


def connect(client: Host, directory: Path, *arguments: str, **more: Any) -> GatewayProcess:
    """Start `fastun connect` with a file, and `more` for `start_gateway`."""
    here = start_gateway(client, directory, "connect", *arguments, wire="wireguard", **more)
    here.addresses = CLIENT_ADDRESSES
    return here


def dial(
    there: GatewayProcess,
    client: Host,
    directory: Path,
    outer: str,
    transport: Transport = "udp",
) -> Tunnel:
    """Add a client that reaches the server at an address or a name, and start it."""
    file = add_peer(there, "client", outer, transport)
    return Tunnel(there, connect(client, directory, str(file)))


def connect_alone(client: Host, directory: Path) -> GatewayProcess:
    """Start ALONE, and return when it is up, also where it was before."""
    file = directory / "wg0.conf"
    file.touch(0o600)
    file.write_text(ALONE)
    log = directory / client.name / "connect.log"
    n_starts = log.read_text().count(" up  interface") if log.exists() else 0
    made = start_gateway(client, directory, "connect", str(file), wire="wireguard", interface="wg0")

    def is_up() -> bool:
        made.check_alive()
        return log_of(made).count(" up  interface") > n_starts

    wait_until(is_up, "up", timeout_s=15)
    return made


def log_of(gateway: GatewayProcess) -> str:
    """Return all that a gateway has logged."""
    return gateway.log_file.read_text()
