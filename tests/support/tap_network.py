"""A server with a TAP device and its peers, each a host of its own, and frames made by hand.

server 10.0.N.1  ===veth===  peer N 10.0.N.2      N from 1
ft0 10.99.0.1    .........   ft0 10.99.0.(10 + N), fd99::(10 + N)
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.tunnel import INTERFACE, SERVER_ADDRESSES, add_peer, endpoints, start_gateway

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport

BROADCAST = b"\xff" * 6
# Of local experiments (IEEE 802).
EXPERIMENTAL = b"\x88\xb5"


class TapNetwork:
    """The server and its peers, all connected."""

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        transports: Sequence[Transport],
        server_arguments: Sequence[str] = (),
        *,
        addresses: Sequence[str] = SERVER_ADDRESSES,
        inner: str = "10.99.0",
    ) -> None:
        """Start them; each of ``transports`` is a peer's.

        ``addresses`` are the server's on the device, ``inner`` begins its peers' IPv4 addresses.
        """
        host = lab.host("server")
        listen = endpoints("0.0.0.0", "both")  # noqa: S104 (in a namespace)
        self.server = start_gateway(
            *(host, directory, "serve", *(word for url in listen for word in ("--listen", url))),
            *server_arguments,
            mode="tap",
            wire="wireguard",
            addresses=addresses,
        )
        self.peers: list[GatewayProcess] = []
        for n, transport in enumerate(transports, start=1):
            peer = lab.host(f"peer{n}")
            lab.wire(host, peer, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
            file = add_peer(self.server, f"peer{n}", f"10.0.{n}.1", transport)
            self.peers.append(
                start_gateway(
                    *(peer, directory, "connect", str(file)),
                    mode="tap",
                    wire="wireguard",
                    addresses=[f"{inner}.{10 + n}/24", f"fd99::{10 + n}/64"],
                )
            )
        wait_until(
            lambda: self.server.scrape().total("fastun_peer_up") == len(self.peers),
            "all peers",
            timeout_s=30,
        )

    def drops(self, reason: str) -> float:
        """Return how many packets the server has dropped for it."""
        return self.server.scrape().total("fastun_dropped_packets_total", reason=reason)


def mac_of(host: Host, interface: str = INTERFACE) -> bytes:
    """Return the interface's Ethernet address."""
    shown = host.ip("-br", "link", "show", "dev", interface)
    return bytes.fromhex(shown.split()[2].replace(":", ""))


def raw_socket(host: Host, interface: str = INTERFACE) -> socket.socket:
    """Return a socket for frames of that interface. It hears only EXPERIMENTAL ones."""
    made = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind((interface, int.from_bytes(EXPERIMENTAL, "big")))
    made.settimeout(2)
    return made


def frame(destination: bytes, source: bytes, text: bytes = b"", *, vlan: int = 0) -> bytes:
    """Return a frame that no host answers; with a tag where ``vlan`` is not 0."""
    tag = b"\x81\x00" + vlan.to_bytes(2, "big") if vlan else b""
    return destination + source + tag + EXPERIMENTAL + text.ljust(46, b"\0")


def any_mac() -> bytes:
    """Return a made-up address of a host."""
    return bytes([0x02]) + os.urandom(5)


def heard(listener: socket.socket, text: bytes) -> bool:
    """Return whether a frame with the text comes within the socket's timeout."""
    try:
        while True:
            if text in listener.recv(2048):
                return True
    except TimeoutError:
        return False
