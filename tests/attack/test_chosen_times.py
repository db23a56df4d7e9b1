"""A peer chooses the time that its handshakes say, and it costs no other peer anything.

client, hostile (a key, and no clock)  ==== veth ==== 10.0.0.1  server
  hostile: 10.0.0.2 and HOSTILE_HOSTS, each a source of its own
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import time
import tomllib
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import PORT, UDP_PORT, add_peer
from fastun.session import noise
from fastun.session.keys import pair_of
from tests.support.known_at import wait_known
from tests.support.roaming_client import RoamingClient

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel

SERVER = "10.0.0.1"
HOSTILE_HOSTS = [f"10.0.0.{n}" for n in range(11, 21)]
LAST = b"\xff" * 12  # no later time can be said
N_EARLIER = 60  # of each host: within its burst


def earlier(n: int) -> bytes:
    """A time before LAST, and in no calendar either: its year has eleven digits and more."""
    return (2**64 - 1000 * (n + 1)).to_bytes(8, "big") + bytes(4)


def initiation(file: Path, timestamp: bytes) -> bytes:
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    own = pair_of(base64.b64decode(document["interface"]["private_key"]))
    server = base64.b64decode(document["peer"][0]["public_key"])
    return noise.initiate(own, server, timestamp=timestamp)[0]


def say_by_udp(host: Host, source: str, messages: list[bytes]) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for message in messages:
            sender.sendto(message, (SERVER, UDP_PORT))


def say_by_tcp(host: Host, source: str, messages: list[bytes]) -> None:
    for message in messages:
        with host.socket() as connection:
            connection.settimeout(5)
            connection.bind((source, 0))
            connection.connect((SERVER, PORT))
            connection.sendall(struct.pack(">H", len(message)) + message)
            with contextlib.suppress(OSError):
                connection.recv(1)


def refused(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_handshakes_total", result="replayed_timestamp")


def asked_for_a_cookie(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_dropped_packets_total", reason="cookie_sent")


def took_s(host: Host, file: Path) -> float:
    begun_s = time.monotonic()
    with RoamingClient(host, file, SERVER):
        return time.monotonic() - begun_s


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_peer_whose_clock_shows_no_date_keeps_no_other_from_connecting(
    tunnel: StartTunnel, transport: Transport
) -> None:
    """Each of its handshakes is refused like any that is older than the last, and is no error."""
    pair = tunnel(transport="udp", server_arguments=("--listen", f"tcp://{SERVER}:{PORT}"))
    server, host = pair.server, pair.client.host
    sources = HOSTILE_HOSTS[: 10 if transport == "udp" else 1]
    hostile = add_peer(server, "hostile", SERVER, "udp")
    # One for each time: a peer's next handshake within 20 ms is not answered.
    others = [add_peer(server, f"other{n}", SERVER, "udp") for n in range(len(sources))]
    for address in HOSTILE_HOSTS:
        host.ip("address", "add", f"{address}/24", "dev", "to-server")
    wait_known(server, "hostile", *(f"other{n}" for n in range(len(sources))))
    say = say_by_udp if transport == "udp" else say_by_tcp
    say(host, HOSTILE_HOSTS[0], [initiation(hostile, LAST)])
    old = [initiation(hostile, earlier(n)) for n in range(N_EARLIER)]
    before = refused(server)
    waited_s = []
    for source, other in zip(sources, others, strict=True):
        say(host, source, old)
        waited_s.append(took_s(host, other))
    n_sent = len(sources) * N_EARLIER

    def n_seen() -> float:
        return refused(server) - before + asked_for_a_cookie(server)

    # A fast server has so many at once that it asks for cookies, of the others too.
    n_most = n_sent + len(others)
    wait_until(lambda: n_sent <= n_seen() <= n_most, "all are refused", timeout_s=20)
    assert refused(server) > before
    log = server.log_file.read_text(encoding="utf-8")
    print(f"{n_sent} by {transport}: another peer connects within {max(waited_s):.3f} s")  # noqa: T201
    assert "Traceback" not in log
    assert "no date" in log  # said once a minute, as of any peer whose clock was set back
