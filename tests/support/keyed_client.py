"""A client that has a key and keeps to nothing: it says a proper hello, then seals what it is said.

Over TCP, where super-packets go whole. Its file is the one that `fastun peer add` gives.
"""

from __future__ import annotations

import base64
import socket
import struct
import time
import tomllib
from typing import TYPE_CHECKING, Self

import msgpack

from fastun.session import noise, transport
from fastun.session.keys import pair_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host

_HELLO = {
    "version": 1,
    "software": "keyed_client",
    "mode": "tun",
    "offload": ["tcp", "udp"],
    "message_max": 65488,
}
_TIMEOUT_S = 10


class KeyedClient:
    """One connection. Use as a context manager; `connected` tells when it may send."""

    def __init__(self, host: Host, file: Path, address: str, port: int) -> None:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        server = document["peer"][0]
        self._own = pair_of(base64.b64decode(document["interface"]["private_key"]))
        self._server = base64.b64decode(server["public_key"])
        self._preshared = base64.b64decode(server["preshared_key"])
        self.connection = host.socket()
        self.connection.settimeout(_TIMEOUT_S)
        self.connection.connect((address, port))
        self._counter = 0
        self._greet()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _greet(self) -> None:
        initiation, state = noise.initiate(self._own, self._server)
        self._send_frame(initiation)
        self._keys = noise.consume_response(self._own, state, self._receive(), self._preshared)
        self.send([b"\x01\x00\x00\x00" + msgpack.packb(_HELLO)])
        self._receive()  # the server's hello

    def _send_frame(self, message: bytes) -> None:
        self.connection.sendall(struct.pack(">H", len(message)) + message)

    def _receive(self) -> bytes:
        (length,) = struct.unpack(">H", self.connection.recv(2, socket.MSG_WAITALL))
        return self.connection.recv(length, socket.MSG_WAITALL)

    def seal(self, content: bytes) -> bytes:
        """Return the next message of the stream, with its length in front."""
        message = transport.seal_data(
            self._keys.send, self._keys.remote_index, self._counter, content
        )
        self._counter += 1
        return struct.pack(">H", len(message)) + message

    def send(self, contents: Sequence[bytes]) -> int:
        """Seal and send; return the bytes of the stream."""
        stream = b"".join(map(self.seal, contents))
        self.connection.sendall(stream)
        return len(stream)

    def send_paced(self, messages: Sequence[bytes], bits_per_second: float) -> float:
        """Send what `seal` gave at this rate; return how many seconds it took."""
        start, n_bits = time.monotonic(), 0
        for message in messages:
            self.connection.sendall(message)
            n_bits += 8 * len(message)
            time.sleep(max(0.0, start + n_bits / bits_per_second - time.monotonic()))
        return time.monotonic() - start
