"""What a peer costs in memory: a server with a thousand of them, each with one session.

server: fastun serve on UDP  ===veth===  client: a socket for each peer, and no tunnel behind it
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.config.written import write
from fastun.lab.host import LabError, wait_until
from fastun.lab.network import Lab
from fastun.lab.tunnel import start_gateway
from fastun.session import keys, noise, transport
from fastun.session.refusal import HandshakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess
    from fastun.session.keys import KeyPair

PEERS: Final = 1000
PEERS_MIN: Final = 10
# The limits of a source of handshakes allow so many of them a second (handshake_gate.h).
_SOURCES: Final = 50
_SERVER, _PORT = "10.0.0.1", 51820
_START_S: Final = 20.0
# What a start leaves to do, and what timers do after the last handshake.
_SETTLE_S: Final = 3.0
# A datagram may get lost where many come at once.
_ANSWER_S: Final = 1.0
_ATTEMPTS: Final = 5
_KIBIBYTE: Final = 1024


class Cost(NamedTuple):
    """Proportional memory of all processes of `serve`, in bytes."""

    without: int
    with_sessions: int
    n_peers: int

    @property
    def kib_a_peer(self) -> float:
        """What one peer with its session adds."""
        return (self.with_sessions - self.without) / self.n_peers / _KIBIBYTE


def measure(n_peers: int = PEERS) -> Cost:
    """Start servers with one peer and with ``n_peers``, connect all. Raises FastunError."""
    with TemporaryDirectory(prefix="fastun-crowd-") as directory, Lab() as lab:
        without = _proportional(lab, Path(directory), "one", 1)
        with_sessions = _proportional(lab, Path(directory), "many", n_peers)
    return Cost(without, with_sessions, n_peers - 1)


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure and print. Raises FastunError."""
    parser = argparse.ArgumentParser(prog="./run bench crowd", description=__doc__)
    parser.add_argument("--peers", type=int, default=PEERS, metavar="N")
    chosen = parser.parse_args(arguments)
    if chosen.peers < PEERS_MIN:
        parser.error(f"--peers must be {PEERS_MIN} or more")
    cost = measure(chosen.peers)
    console.print(
        f"{cost.n_peers} peers with one session each: {cost.kib_a_peer:.1f} KiB of proportional "
        "memory a peer, all processes, after a scrape"
    )
    return 0


def _proportional(lab: Lab, directory: Path, name: str, n_peers: int) -> int:
    host, crowd = lab.host(f"server-{name}"), lab.host(f"crowd-{name}")
    sources = [f"10.0.1.{n + 1}" for n in range(_SOURCES)]
    lab.wire(host, crowd, [f"{_SERVER}/16"], [f"{source}/16" for source in sources])
    own, peers = _pair(), [_pair() for _ in range(n_peers)]
    gateway = _serve(host, directory / name, own, peers)
    for n, peer in enumerate(peers):
        _connect(crowd, sources[n % _SOURCES], peer, own.public)
    wait_until(
        lambda: gateway.scrape().total("fastun_peer_up") == n_peers,
        "all peers connected",
        timeout_s=_START_S,
        interval_s=1.0,
    )
    time.sleep(_SETTLE_S)
    return sum(psutil.Process(pid).memory_full_info().pss for pid in host.pids())


def _pair() -> KeyPair:
    return keys.pair_of(keys.generate_private())


def _serve(host: Host, home: Path, own: KeyPair, peers: Sequence[KeyPair]) -> GatewayProcess:
    home.mkdir()
    file = home / "server.toml"
    file.touch(mode=0o600)
    sections = tuple(
        PeerSection(
            name=f"peer{n}",
            public_key=keys.format_key(peer.public),
            allowed_ips=(f"10.99.{n // 250}.{n % 250 + 2}/32",),
        )
        for n, peer in enumerate(peers)
    )
    interface = InterfaceSection(private_key=Secret(keys.format_private(own)))
    file.write_text(write(Document(interface=interface, peer=sections)), encoding="utf-8")
    listen = ["-c", str(file), "--listen", f"udp://{_SERVER}:{_PORT}"]
    addresses = ["10.99.0.1/16"]
    gateway = start_gateway(host, home, "serve", *listen, wire="wireguard", addresses=addresses)
    wait_until(lambda: host.listens(_PORT, udp=True), "the server listens", timeout_s=_START_S)
    return gateway


def _connect(crowd: Host, source: str, own: KeyPair, server: bytes) -> None:
    """Make a session of a peer's, and prove it by a keepalive."""
    with crowd.socket(kind=socket.SOCK_DGRAM) as end:
        end.bind((source, 0))
        end.connect((_SERVER, _PORT))
        end.settimeout(_ANSWER_S)
        for _ in range(_ATTEMPTS):
            initiation, state = noise.initiate(own, server)
            end.send(initiation)
            with contextlib.suppress(TimeoutError, HandshakeError):  # lost, or the last one's
                session = noise.consume_response(own, state, end.recv(2048))
                end.send(transport.seal_data(session.send, session.remote_index, 0, b""))
                return
    raise LabError(f"no answer to {_ATTEMPTS} handshakes from {source}")
