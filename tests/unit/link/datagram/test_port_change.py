"""Another source port for a silent peer: when, how often, and what is retired for it."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun.errors import RuntimeFailure
from fastun.link.datagram.peer import PeerPort
from fastun.link.datagram.port_change import CHANGE_INTERVAL_S, SILENT_HANDSHAKES, PortChange
from fastun.link.datagram.sockets import UdpSockets, any_port
from fastun.native import SOCKETS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastun.link.datagram.peer import UdpPeer

STEP_S = 5.3


class Office:
    """Some silent peers, each tried every STEP_S."""

    def __init__(self, n_peers: int = 1, *, is_allowed: bool = True) -> None:
        self.sockets = UdpSockets(any_port(None), offload=False)
        self.passed_on: list[int] = []
        self.left: list[int] = []  # indices
        self.change = PortChange(self, is_allowed=is_allowed)
        named = SimpleNamespace(peer=SimpleNamespace(name="bob"))
        self.peers = [
            cast("UdpPeer", SimpleNamespace(port=PeerPort(), slotted=named)) for _ in range(n_peers)
        ]
        self.now_s = 1000.0

    # What SocketPassing does.

    def add(self, bound: socket.socket) -> None:
        self.pass_on(self.sockets.add(bound))

    def pass_on(self, index: int) -> None:
        self.passed_on.append(index)

    async def leave(self, bounds: Sequence[socket.socket]) -> None:
        self.left += [self.sockets.remove(each) for each in bounds]

    def use(self, port: int | None) -> None:
        asyncio.run(self.change.use(port))

    def try_all(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            for peer in self.peers:
                self.change.consider(peer, self.peers, self.now_s)
                peer.port.n_silent += 1
            self.now_s += STEP_S

    def indices(self) -> list[int | None]:
        return [peer.port.socket_index for peer in self.peers]

    def ports(self) -> list[int]:
        return self.sockets.ports()


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.sockets.close()


def test_a_peer_gets_another_port_after_some_silent_handshakes(office: Office) -> None:
    office.try_all(STEP_S * SILENT_HANDSHAKES)
    assert office.indices() == [None]
    office.try_all(STEP_S)
    assert (office.indices(), office.passed_on) == ([1], [1])
    assert len(set(office.ports())) == 2


def test_it_changes_once_in_90_s_and_sockets_do_not_pile_up(office: Office) -> None:
    office.try_all(CHANGE_INTERVAL_S)
    assert office.passed_on == [1]
    office.try_all(20 * CHANGE_INTERVAL_S)
    assert 17 <= len(office.passed_on) <= 21
    assert set(office.passed_on) == {1, 2}, "the last one is still read, and no more"
    assert len(office.ports()) == 3


def test_the_socket_that_is_retired_is_closed(office: Office) -> None:
    office.try_all(2 * CHANGE_INTERVAL_S)
    first = office.sockets.all()[1]
    office.try_all(2 * CHANGE_INTERVAL_S)
    assert first.fileno() == -1


def test_silent_peers_share_the_new_ports() -> None:
    office = Office(n_peers=40)
    office.try_all(3 * CHANGE_INTERVAL_S)
    assert len(set(office.indices())) == 1
    assert len(office.passed_on) <= 4
    office.sockets.close()


def test_a_port_that_is_configured_stays() -> None:
    office = Office(is_allowed=False)
    office.try_all(5 * CHANGE_INTERVAL_S)
    assert (office.indices(), office.passed_on) == ([None], [])
    office.sockets.close()


def test_a_peer_that_answers_on_another_port_keeps_it(office: Office) -> None:
    office.try_all(STEP_S * (SILENT_HANDSHAKES + 1))
    office.peers[0].port.n_silent = 0
    index = office.indices()
    office.now_s += 10 * CHANGE_INTERVAL_S
    office.try_all(STEP_S * SILENT_HANDSHAKES)
    assert office.indices() == index


def test_where_workers_can_have_no_more_nothing_changes() -> None:
    office = Office()
    while office.sockets.has_room():
        office.sockets.add(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    office.try_all(3 * CHANGE_INTERVAL_S)
    assert (office.indices(), len(office.ports())) == ([None], SOCKETS_MAX)
    office.sockets.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


def test_another_configured_port_takes_the_place_of_all_before(office: Office) -> None:
    office.try_all(STEP_S * (SILENT_HANDSHAKES + 1))
    before, port = office.sockets.all(), free_port()
    office.use(port)
    assert (office.ports(), office.left) == ([port], [0, 1])
    assert [each.fileno() for each in before] == [-1, -1]
    office.try_all(5 * CHANGE_INTERVAL_S)
    assert office.ports() == [port], "a configured port stays"
    office.use(None)
    assert len(office.ports()) == 1
    assert office.ports() != [port]
    office.try_all(5 * CHANGE_INTERVAL_S)
    assert len(office.ports()) > 1, "any port may be changed again"


def test_the_port_that_was_had_by_chance_can_be_configured(office: Office) -> None:
    (port,) = office.ports()
    office.use(port)
    assert (office.ports(), office.passed_on, office.left) == ([port], [], [])


def test_a_port_in_use_changes_nothing(office: Office) -> None:
    before = office.ports()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::", 0))
        port = other.getsockname()[1]
        with pytest.raises(RuntimeFailure, match=f"UDP port {port}: the port is in use"):
            office.use(port)
    assert (office.ports(), office.left) == (before, [])
