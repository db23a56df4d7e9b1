"""wireguard-go, configured by wireguard-tools through its UAPI socket."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.tunnel.addresses import INNER, OUTER, Addresses
from bench.tunnel.pair import Pair
from fastun.lab.host import wait_until
from fastun.session import keys

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.session.keys import KeyPair

PORT = 51820
# All namespaces share this directory, so a device's name must be the machine's only one.
UAPI_DIRECTORY = Path("/var/run/wireguard")


def start(pair: Pair) -> None:
    """Start both ends, and give them each other's keys."""
    server, client = (keys.pair_of(keys.generate_private()) for _ in range(2))
    ends = (
        (pair.server, _configuration(server, client, INNER.client, dials=False)),
        (pair.client, _configuration(client, server, INNER.server, dials=True)),
    )
    for host, _ in ends:
        # A process that had this pid and was killed can have left its socket.
        with contextlib.suppress(OSError):
            _socket(pair, host).unlink(missing_ok=True)
        pair.spawn(host, "wireguard-go", "--foreground", _device(pair, host))
    for host, text in ends:
        _configure(pair, host, text)


def _device(pair: Pair, host: Host) -> str:
    return f"wg{os.getpid()}{pair.role(host)[0]}"


def _socket(pair: Pair, host: Host) -> Path:
    return UAPI_DIRECTORY / f"{_device(pair, host)}.sock"


def _configure(pair: Pair, host: Host, text: str) -> None:
    def is_ready() -> bool:
        pair.check_alive()
        return _socket(pair, host).exists()

    wait_until(is_ready, f"wireguard-go's socket {_socket(pair, host)}")
    file = pair.directory / f"{pair.role(host)}.conf"
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    host.run("wg", "setconf", _device(pair, host), str(file))
    # wg-quick(8) sets this MTU for a way of 1500 bytes.
    host.ip("link", "set", _device(pair, host), "mtu", "1420")
    pair.configure_device(host, _device(pair, host))


def _configuration(own: KeyPair, other: KeyPair, others: Addresses, *, dials: bool) -> str:
    """Return what wg(8) takes as a configuration file."""
    endpoint = f"Endpoint = {OUTER.server.bare_v4}:{PORT}\n" if dials else ""
    listen = "" if dials else f"ListenPort = {PORT}\n"
    return (
        f"[Interface]\nPrivateKey = {keys.format_private(own)}\n{listen}"
        f"[Peer]\nPublicKey = {keys.format_key(other.public)}\n{endpoint}"
        f"AllowedIPs = {others.bare_v4}/32, {others.bare_v6}/128\n"
    )
