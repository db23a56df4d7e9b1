"""Who was removed and has kept a handshake back does not get the place of who came after.

mallory (a UDP socket, and WireGuard's handshake)  ==== veth ====  server (fastun serve)
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tomllib
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.tunnel import SERVER_ADDRESSES, UDP_PORT, GatewayProcess, add_peer, start_gateway
from fastun.session import keys, messages, noise, transport
from fastun.session.messages import MessageType
from tests.support.compressed_time import gateway_with

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.session.transport import SessionKeys

SERVER_OUTER = "10.0.0.1"
# A server that asks a peer anew after 0.6 s in which nothing has come back, not 15.
IMPATIENT = gateway_with(keepalive_timeout_s=0.5, rekey_timeout_s=0.1, jitter_s=0.01)


class Mallory:
    """Speaks the handshake, and can be silent."""

    def __init__(self, host: Host, file: Path) -> None:
        text = tomllib.loads(file.read_text())
        (peer,) = text["peer"]
        self.inner = text["interface"]["address"][0].partition("/")[0]
        self._own = keys.pair_of(b64decode(text["interface"]["private_key"]))
        self._server = b64decode(peer["public_key"])
        self._psk = b64decode(peer["preshared_key"])
        self._host = host
        self.move()

    def move(self) -> None:
        """Go on from another address."""
        self._socket = self._host.socket(kind=socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.connect((SERVER_OUTER, UDP_PORT))

    def connect(self) -> None:
        """Begin a session, and prove it by a keepalive."""
        initiation, state = noise.initiate(self._own, self._server)
        self._socket.send(initiation)
        session = noise.consume_response(self._own, state, self._socket.recv(2000), self._psk)
        self.send(session)

    def send(self, session: SessionKeys) -> None:
        self._socket.send(transport.seal_data(session.send, session.remote_index, 0, b""))

    def wait_to_be_asked(self) -> None:
        """Wait for an initiation of the server's."""
        while messages.type_of(self._socket.recv(2000, socket.MSG_PEEK)) is not (
            MessageType.INITIATION
        ):
            self._socket.recv(2000)

    def last_asked(self) -> bytes:
        """Return the last initiation of the server's: those before it wait for no answer."""
        self._socket.settimeout(0.5)
        asked = b""
        with contextlib.suppress(TimeoutError):
            while True:
                asked = self._socket.recv(2000)
        return asked

    def answer(self, initiation: bytes) -> SessionKeys:
        response, session = noise.respond(
            noise.consume_initiation(self._own, initiation), self._psk
        )
        self._socket.send(response)
        return session


def peer(server: GatewayProcess, *arguments: str) -> str:
    command = [sys.executable, "-m", "fastun", "peer", *arguments]
    return server.host.run(*command, "--state", str(server.log_file.parent)).stdout


def test_a_removed_peer_does_not_answer_its_way_into_the_next_ones_place(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", IMPATIENT)
    inside, outside = lab.host("server"), lab.host("mallory")
    lab.wire(inside, outside, [f"{SERVER_OUTER}/24"], ["10.0.0.2/24"])
    server = start_gateway(inside, tmp_path, "serve", wire="wireguard", addresses=SERVER_ADDRESSES)
    wait_until(lambda: inside.listens(UDP_PORT, udp=True), "fastun listens", timeout_s=15)
    mallory = Mallory(outside, add_peer(server, "mallory", SERVER_OUTER, "udp"))
    wait_until(lambda: peers_up(server) == {"mallory": 0}, "mallory is known")
    mallory.connect()
    wait_until(lambda: peers_up(server) == {"mallory": 1}, "mallory is up")
    inside.run("ping", "-c1", "-W1", mallory.inner, check=False)
    mallory.wait_to_be_asked()

    peer(server, "remove", "mallory")
    peer(server, "add", "bob", "--endpoint", f"udp://{SERVER_OUTER}:{UDP_PORT}")
    wait_until(lambda: peers_up(server) == {"bob": 0}, "bob is known")
    kept_back = mallory.last_asked()
    mallory.move()
    session = mallory.answer(kept_back)
    wait_until(lambda: refused(server) == 1, "the response is refused")
    mallory.send(session)
    assert peers_up(server) == {"bob": 0}
    assert "roamed" not in server.log_file.read_text()
    assert server.stop() == 0


def peers_up(server: GatewayProcess) -> dict[str, float]:
    """Return who is known, and whether it is connected."""
    head, tail = 'fastun_peer_up{peer="', '"}'
    return {
        sample.removeprefix(head).removesuffix(tail): value
        for sample, value in server.scrape().items()
        if sample.startswith(head)
    }


def refused(server: GatewayProcess) -> float:
    return server.scrape().total("fastun_handshakes_total", result="unknown_index")
