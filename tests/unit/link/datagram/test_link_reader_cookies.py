"""Cookies of a real link-reader: a source that was sent one can show it, and no other.

The peer's side is Python's: its messages, and the jar that opens the cookie replies.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.host.sockets.maker import OWN
from fastun.lane import channel
from fastun.lane.messages import AddSocket, Begin, Boot, Ready, SetGateKeys, UdpHandshakeCame
from fastun.link.datagram.sockets import UdpSockets
from fastun.native import Mode, PeerTable, Ring, Stats, UdpAddress, Wire
from fastun.session import cookies, noise
from fastun.session.cookies import CookieJar, append_macs
from fastun.session.messages import COOKIE_REPLY_BYTES, MACS_BYTES, MessageType, type_of
from tests.support.parties import CLIENT, SERVER, shake_hands, with_right_macs
from tests.support.worker_program import worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator

RING_BYTES = 1 << 20
WAIT_S = 10.0


class LinkReader:
    """A worker process with one UDP socket, and what it tells the gateway."""

    def __init__(self, bound: socket.socket, own_public: bytes) -> None:
        self._memory = Ring.create(RING_BYTES), Stats.create(), PeerTable.create()
        ring, self.stats, peers = self._memory
        self._sockets = UdpSockets([bound], offload=False)
        self.port = bound.getsockname()[1]
        self._channel, inherited = channel.of(OWN.channel())
        with inherited:
            self._process = subprocess.Popen(
                worker_command("link-reader/0", inherited.fileno()),
                pass_fds=[inherited.fileno()],
            )
        self._channel.set_blocking(True)
        boot = Boot(RING_BYTES, Wire.WIREGUARD, Mode.TUN, holds=False, coalesce=0, mss_mtu=0)
        fds = (self.stats.fd, ring.fd, peers.fd, bound.fileno(), bound.fileno())
        self._channel.send(boot, fds)
        self._channel.send(AddSocket(0, has_offload=False), (bound.fileno(),))
        keys = SetGateKeys(cookies.mac1_key(own_public), cookies.cookie_key(own_public))
        self._channel.send(keys)
        self._channel.send(Begin())
        assert isinstance(self._heard(), Ready)

    def _heard(self) -> object:
        received = self._channel.receive()
        assert received is not None
        return received[0]

    def fileno(self) -> int:
        """Return what is readable when there is something to be heard."""
        return self._channel.fileno()

    def heard(self) -> tuple[UdpAddress, bytes]:
        """Return the next handshake message that goes up to the gateway."""
        message = self._heard()
        assert isinstance(message, UdpHandshakeCame)
        return UdpAddress.unpack(message.endpoint), message.message

    def socket_inode(self) -> int:
        return os.fstat(self._sockets.all()[0].fileno()).st_ino

    def n_descriptors_of(self, inode: int) -> int:
        """Return how many descriptors of a socket the worker has."""
        fds = Path(f"/proc/{self._process.pid}/fd").iterdir()
        return sum(f"socket:[{inode}]" == str(fd.readlink()) for fd in fds)

    def replace_socket(self, bound: socket.socket) -> None:
        """Give it another socket in place of the one that it has."""
        self._sockets.replace(0, bound)
        self._channel.send(AddSocket(0, has_offload=False), (bound.fileno(),))
        self.port = bound.getsockname()[1]

    def dropped(self, reason: str) -> int:
        return next(count for drop, count in self.stats.drops() if drop.reason == reason)

    def close(self) -> None:
        self._channel.close()
        self._process.wait(WAIT_S)
        self._sockets.close()
        for each in self._memory:
            each.close()


@dataclass(frozen=True)
class Place:
    """Where the link-reader is bound, and a peer, who sends `to` one of its addresses."""

    family: socket.AddressFamily
    bound: str
    peer_family: socket.AddressFamily
    peer: str
    to: str


PLACES = [
    pytest.param(
        Place(socket.AF_INET, "0.0.0.0", socket.AF_INET, "127.0.0.1", "127.0.0.2"),  # noqa: S104
        id="IPv4",
    ),
    pytest.param(Place(socket.AF_INET6, "::", socket.AF_INET6, "::1", "::1"), id="IPv6"),
    pytest.param(
        Place(socket.AF_INET6, "::", socket.AF_INET, "127.0.0.1", "127.0.0.2"),
        id="IPv4 on a socket of IPv6",
    ),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    chosen: Place = request.param
    return chosen


def open_at(place: Place) -> socket.socket:
    bound = socket.socket(place.family, socket.SOCK_DGRAM)
    if place.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.bind((place.bound, 0))
    bound.setblocking(False)
    return bound


@pytest.fixture
def reader(place: Place) -> Iterator[LinkReader]:
    running = LinkReader(open_at(place), SERVER.public)
    yield running
    running.close()


class Peer:
    """A socket that hears only what comes from where it sends to."""

    def __init__(self, place: Place, reader: LinkReader) -> None:
        self._socket = socket.socket(place.peer_family, socket.SOCK_DGRAM)
        self._socket.bind((place.peer, 0))
        self._socket.connect((place.to, reader.port))
        self._socket.settimeout(WAIT_S)
        self.host, self.port = self._socket.getsockname()[:2]

    def fileno(self) -> int:
        """Return what is readable when there is something to be heard."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        self._socket.send(message)

    def hear(self) -> bytes:
        return self._socket.recv(256)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def peers(place: Place, reader: LinkReader) -> Iterator[tuple[Peer, Peer]]:
    pair = Peer(place, reader), Peer(place, reader)
    yield pair
    for each in pair:
        each.close()


def initiation(cookie: bytes | None = None) -> bytes:
    return noise.initiate(CLIENT, SERVER.public, cookie=cookie)[0]


def passes(reader: LinkReader, peer: Peer, message: bytes) -> bool:
    """Send a message; return whether it goes up to the gateway. Else it is answered."""
    peer.send(message)
    ready, _, _ = select.select([reader, peer], [], [], WAIT_S)
    assert ready, "the message was dropped"
    if peer in ready:
        return False
    address, heard = reader.heard()
    assert (str(address.host), address.port, heard) == (peer.host, peer.port, message)
    return True


def cookie_reply_to(reader: LinkReader, peer: Peer, message: bytes) -> bytes:
    """Send a message until it is answered: more than a source may without a cookie."""
    while passes(reader, peer, message):
        pass
    return peer.hear()


def jar_with_cookie(reader: LinkReader, peer: Peer) -> CookieJar:
    jar = CookieJar(SERVER.public)
    jar.remember_sent(message := initiation())
    jar.consume_reply(cookie_reply_to(reader, peer, message), 0.0)
    return jar


def test_a_source_that_was_sent_a_cookie_passes_by_it_and_no_other_does(
    reader: LinkReader, peers: tuple[Peer, Peer]
) -> None:
    peer, other = peers
    cookie = jar_with_cookie(reader, peer).current(0.0)
    assert cookie is not None
    assert all(passes(reader, peer, initiation(cookie)) for _ in range(20))
    cookie_reply_to(reader, other, initiation(cookie))  # from another port
    cookie_reply_to(reader, peer, initiation(bytes(16)))
    assert passes(reader, peer, initiation(cookie))  # the answer before it has been counted
    assert reader.dropped("cookie_sent") == 3
    assert reader.stats.calls("link-reader", "sendmsg") == 3
    assert reader.dropped("cookie_not_sent") == 0
    assert reader.dropped("handshake_flood") == 0


def test_a_cookie_reply_is_shorter_than_what_it_answers_and_new_each_time(
    reader: LinkReader, peers: tuple[Peer, Peer]
) -> None:
    message = initiation()
    first, second = (cookie_reply_to(reader, peers[0], message) for _ in range(2))
    assert len(first) == COOKIE_REPLY_BYTES < len(message)
    assert type_of(first) is MessageType.COOKIE_REPLY
    assert first[4:8] == message[4:8]
    assert first[8:32] != second[8:32]
    cookie = []
    for reply in (first, second):
        jar = CookieJar(SERVER.public)
        jar.remember_sent(message)
        jar.consume_reply(reply, 0.0)
        cookie.append(jar.current(0.0))
    assert cookie[0] == cookie[1]


def test_a_response_is_asked_for_a_cookie_as_well(
    reader: LinkReader, peers: tuple[Peer, Peer]
) -> None:
    """By the side that began: each end may be the one under load."""
    response = with_right_macs(shake_hands().response, SERVER.public)
    reply = cookie_reply_to(reader, peers[0], response)
    assert reply[4:8] == response[4:8]
    jar = CookieJar(SERVER.public)
    jar.remember_sent(response)
    jar.consume_reply(reply, 0.0)
    again = append_macs(response[:-MACS_BYTES], SERVER.public, jar.current(0.0))
    assert all(passes(reader, peers[0], again) for _ in range(20))


def test_a_socket_takes_the_place_of_another_which_is_neither_read_nor_kept(
    reader: LinkReader, place: Place, peers: tuple[Peer, Peer]
) -> None:
    before, _ = peers
    assert passes(reader, before, initiation())
    inode = reader.socket_inode()
    n_held = reader.n_descriptors_of(inode)
    reader.replace_socket(open_at(place))
    after = Peer(place, reader)
    assert passes(reader, after, initiation())
    before.send(initiation())
    assert passes(reader, after, initiation())
    assert reader.n_descriptors_of(inode) == n_held - 1  # the others are its device and its eventfd
    after.close()
