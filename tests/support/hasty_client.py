"""A client over TCP that has a key and does as it likes: it need not read, nor wait for the hello.

It is written beside fastun's gateway: handshake and seals are fastun's, all else is its own.
"""

from __future__ import annotations

import secrets
import socket
import struct
from ipaddress import ip_network
from typing import TYPE_CHECKING

from fastun.link import hello
from fastun.link.hello import Hello
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import noise, transport
from fastun.session.keys import KeyPair, generate_private, pair_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host

HELLO = Hello(
    version=hello.PROTOCOL_VERSION,
    software="hasty",
    mode="tun",
    offload=(),
    message_max=hello.SEALED_MESSAGE_MAX,
    aeads=(hello.CHACHA,),
)


def add_clients(state: Path, addresses: Sequence[str]) -> tuple[bytes, list[KeyPair]]:
    """Put clients into a server's peer directory; return its public key and their pairs."""
    pairs = [pair_of(generate_private()) for _ in addresses]
    with PeerStore(state) as directory:
        with directory.changes():
            for address, pair in zip(addresses, pairs, strict=True):
                name = f"hasty-{address.replace('.', '-')}-{secrets.token_hex(2)}"
                allowed = (ip_network(address),)
                directory.add(Peer(name=name, public_key=pair.public, allowed_ips=allowed))
        server = directory.server()
    assert server is not None
    return server.public_key, pairs


def framed(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def udp_packet(source: str, destination: str, payload: bytes, port: int = 9) -> bytes:
    """An IPv4 packet whose UDP checksum is left out (0)."""
    udp = struct.pack(">4H", 40000, port, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    length = 20 + len(udp)
    head = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + udp


def greet(
    host: Host, server: tuple[str, int], server_key: bytes, own: KeyPair, data: Sequence[bytes] = ()
) -> socket.socket:
    """Connect and say hello, with ``data`` right behind it in one call. The answer is not read."""
    connection = host.socket()
    connection.settimeout(10)
    connection.connect(server)
    initiation, state = noise.initiate(own, server_key)
    connection.sendall(framed(initiation))
    prefix = connection.recv(2, socket.MSG_WAITALL)
    response = connection.recv(*struct.unpack(">H", prefix), socket.MSG_WAITALL)
    keys = noise.consume_response(own, state, response)
    contents = [hello.encode(HELLO), *data]
    sealed = [
        framed(transport.seal_data(keys.send, keys.remote_index, counter, content))
        for counter, content in enumerate(contents)
    ]
    connection.sendall(b"".join(sealed))
    return connection
