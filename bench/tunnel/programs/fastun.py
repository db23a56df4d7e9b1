"""fastun on each of its wires, with the settings that it has by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.tunnel.addresses import INNER, OUTER, Addresses
from bench.tunnel.pair import Pair, Program
from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.config.written import write
from fastun.endpoint import DEFAULT_PORTS, Endpoint
from fastun.lab.tunnel import start_gateway
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.endpoint import Scheme
    from fastun.session.keys import KeyPair


def start(
    pair: Pair,
    *,
    wire: str,
    scheme: Scheme = "tcp",
    mode: str = "tun",
    program: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Start `fastun serve` and `fastun connect`, on the wireguard wire with keys made here.

    `program` is how another version of fastun is called; `options` are for both ends.
    """
    endpoint = Endpoint(scheme, OUTER.server.bare_v4, DEFAULT_PORTS[scheme])
    serve, connect = ["--listen", str(endpoint)], [str(endpoint)]
    if wire == "wireguard":
        server_file, client_file = _write_files(pair.directory, endpoint)
        serve, connect = [*serve, "-c", str(server_file)], [str(client_file)]
    pair.mark_start()
    ends = (
        (pair.server, "serve", serve, INNER.server),
        (pair.client, "connect", connect, INNER.client),
    )
    for host, role, arguments, addresses in ends:
        gateway = start_gateway(
            host,
            pair.directory,
            role,
            *arguments,
            *options,
            wire=wire,
            mode=mode,
            addresses=addresses,
            program=program,
        )
        pair.programs.append(Program(f"fastun {role}", gateway.process, gateway.log_file))
        if host is pair.server:
            pair.wait_listening(endpoint.port, udp=scheme == "udp")


def _write_files(directory: Path, endpoint: Endpoint) -> tuple[Path, Path]:
    """Write the server's and the client's file, with each other's keys."""
    server, client = (keys.pair_of(keys.generate_private()) for _ in range(2))
    written = []
    for name, own, other, addresses, dialled in (
        ("server", server, client, INNER.client, None),
        ("client", client, server, INNER.server, str(endpoint)),
    ):
        file = directory / f"{name}.toml"
        file.touch(mode=0o600)
        file.write_text(write(_document(own, other, addresses, dialled)), encoding="utf-8")
        written.append(file)
    return written[0], written[1]


def _document(own: KeyPair, other: KeyPair, others: Addresses, dialled: str | None) -> Document:
    peer = PeerSection(
        name="other",
        endpoint=dialled,
        public_key=keys.format_key(other.public),
        allowed_ips=(f"{others.bare_v4}/32", f"{others.bare_v6}/128"),
    )
    return Document(
        interface=InterfaceSection(private_key=Secret(keys.format_private(own))), peer=(peer,)
    )
