"""What is heard of paths without asking: whose hint it is, and when routes are looked at."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link.attempts import Attempts
from fastun.link.datagram import path_listener
from fastun.link.datagram.hints import Hint
from fastun.link.datagram.path_listener import PathListener
from fastun.link.datagram.path_mtu import PathCounts
from fastun.native import UdpAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.link.datagram.path_mtu import PathWatch
    from fastun.link.datagram.peers import UdpPeers
    from fastun.link.datagram.sockets import UdpSockets


class Ears:
    """A listener whose kernel is a test, with peers at 192.0.2.1, .2, ..."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_peers: int = 3) -> None:
        self.routes_change = False
        self.is_closed = 0
        self.peers = [
            SimpleNamespace(address=UdpAddress(ip_address(f"192.0.2.{n + 1}"), 51820), carried=True)
            for n in range(n_peers)
        ]
        self.heard: list[tuple[object, Hint]] = []
        self.ports: list[int] = []
        monkeypatch.setattr(path_listener, "RouteChanges", lambda: self)
        monkeypatch.setattr(path_listener, "HintListener", self._listen)
        deaf = SimpleNamespace(close=lambda: None)
        monkeypatch.setattr(path_listener, "UnreachableListener", lambda *_: deaf)
        self.paths = SimpleNamespace(
            counts=PathCounts(),
            on_hint=lambda peer, hint, _: self.heard.append((peer, hint)),
            hears_hints=True,
        )
        known = SimpleNamespace(
            by_slot=dict(enumerate(self.peers)), is_carried=lambda peer: peer.carried
        )
        sockets = SimpleNamespace(ports=lambda: [51820, 51821], maker=None)
        self.listener = PathListener(
            cast("PathWatch", self.paths),
            cast("UdpPeers", known),
            cast("UdpSockets", sockets),
            Attempts(),
        )

    def _listen(self, ports: Any, on_hint: Callable[[Hint], None], _: object) -> Any:
        self.ports, self.on_hint = list(ports), on_hint
        self.is_allowed = False
        return self

    def have_come(self) -> bool:
        came, self.routes_change = self.routes_change, False
        return came

    def close(self) -> None:
        self.is_closed += 1


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Ears:
    return Ears(monkeypatch)


def hint(host: str, port: int = 51820) -> Hint:
    return Hint(1400, 1500, ip_address(host), port)


def test_a_hint_is_for_the_peer_that_the_datagram_was_for(ears: Ears) -> None:
    ears.on_hint(hint("192.0.2.2"))
    ears.on_hint(hint("192.0.2.9"))
    ears.on_hint(hint("192.0.2.2", 1))
    assert [peer for peer, _ in ears.heard] == [ears.peers[1]]
    assert ears.paths.counts.hints == {"ignored": 2}
    assert ears.ports == [51820, 51821]
    assert not ears.paths.hears_hints, "it is not allowed to listen"


def test_peers_behind_one_address_are_all_meant_and_those_on_streams_are_not(ears: Ears) -> None:
    ears.peers[0].address = ears.peers[1].address
    ears.on_hint(hint("192.0.2.2"))
    assert len(ears.heard) == 2
    ears.peers[0].carried = False
    ears.peers[1].address = None
    ears.listener.tick(1.0)
    ears.on_hint(hint("192.0.2.2"))
    assert len(ears.heard) == 2


def test_changes_of_routes_are_followed_at_the_next_tick(ears: Ears) -> None:
    assert not ears.listener.tick(0.0)
    ears.routes_change = True
    assert ears.listener.tick(0.5)
    assert not ears.listener.tick(1.0)
    ears.routes_change = True
    assert ears.listener.tick(1.5)


def test_where_routes_change_all_the_time_not_all_of_it_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ears = Ears(monkeypatch, n_peers=200)
    followed = 0
    for tick in range(40):
        ears.routes_change = True
        followed += ears.listener.tick(tick * 0.5)
    assert followed == 10, "20 s, 200 peers, 100 of them a second"
    ears.routes_change = False
    assert ears.listener.tick(21.0), "what was put off is made up for"


def test_its_end_is_that_of_both(ears: Ears) -> None:
    ears.listener.close()
    assert ears.is_closed == 2
