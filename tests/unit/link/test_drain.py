"""A server that is drained, and a client that is asked to go elsewhere."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.lane.messages import SendControl
from fastun.link import drain_messages, draining
from fastun.link.drain_messages import DRAIN_MAX_S, Drain, DrainTaken
from fastun.link.draining import Draining
from fastun.link.endpoint_health import REMEMBERED_MAX, EndpointHealth
from fastun.link.hello import Ability
from fastun.link.leaving import Leaving
from fastun.session import clock
from tests.support.known_names import KnownNames
from tests.support.recording_lane import RecordingLane

INDEX = 5
A, B = "192.0.2.1", "192.0.2.2"


def link(number: int, lane: RecordingLane, *abilities: Ability, hosts: tuple[str, ...] = ()) -> Any:
    endpoints = tuple(Endpoint("udp", host, 51820) for host in hosts)
    peer = SimpleNamespace(endpoints=endpoints)
    return SimpleNamespace(
        id=100 + number, slot=number, peer_name=f"p{number}", lane=lane, connection=None,
        remote=f"{A}:51820", abilities=frozenset(abilities), slotted=SimpleNamespace(peer=peer),
    )  # fmt: skip


class Server:
    """One with three peers: two that can be asked, and one that cannot."""

    def __init__(self, wire: str = "wireguard") -> None:
        self.lane = RecordingLane()
        self.links = {
            0: link(0, self.lane, Ability.GOES_ELSEWHERE),
            1: link(1, self.lane, Ability.GOES_ELSEWHERE),
            2: link(2, self.lane),
        }
        self.owner = SimpleNamespace(
            settings=SimpleNamespace(wire=wire), links=SimpleNamespace(by_slot=self.links)
        )
        self.draining = Draining(cast("Any", self.owner))
        self.ended: list[str] = []
        self.draining.on_end = self.ended.append

    def asked(self) -> list[tuple[int, Drain | None]]:
        sent = [each for _, each, _ in self.lane.sent if isinstance(each, SendControl)]
        self.lane.sent.clear()
        return [(each.slot, drain_messages.decode(each.content, Drain)) for each in sent]

    def look(self) -> None:
        self.draining._look(clock.boottime_s())  # noqa: SLF001 (what the next turn does)


def answer(number: int, *, elsewhere: bool) -> bytes:
    return drain_messages.encode(DrainTaken(number, elsewhere))


def test_those_that_can_are_asked_again_until_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    server, now_s = Server(), [1000.0]
    monkeypatch.setattr(clock, "boottime_s", lambda: now_s[0])
    server.draining.order(60.0)
    assert server.asked() == [(0, Drain(60, 1)), (1, Drain(60, 2))]
    assert server.draining.receive(0, INDEX, answer(1, elsewhere=True))
    assert server.draining.receive(1, INDEX, answer(9, elsewhere=True))  # to nothing of ours
    server.look()
    assert server.asked() == []
    times = []
    for _ in range(600):
        now_s[0] += 0.1
        server.look()
        times += [round(now_s[0] - 1000.0, 1) for slot, _ in server.asked() if slot == 1]
    assert times == [0.5, 1.5, 3.5, 7.5]


def test_what_is_known_of_those_that_are_left_is_counted() -> None:
    server = Server()
    assert server.draining.view is None
    server.draining.order(60.0)
    server.draining.receive(1, INDEX, answer(2, elsewhere=False))
    server.look()
    view = server.draining.view
    assert view is not None
    assert (view.n_before, view.n_connected, view.n_staying, view.n_unaware) == (3, 3, 1, 1)
    del server.links[0]
    server.look()
    view = server.draining.view
    assert view is not None
    assert (view.n_before, view.n_connected) == (3, 2)


def test_a_peer_that_is_not_connected_begins_no_session() -> None:
    server = Server()
    stranger, known = (cast("Any", SimpleNamespace(slot=slot)) for slot in (7, 1))
    assert server.draining.admits(stranger)
    server.draining.order(60.0)
    assert not server.draining.admits(stranger)
    assert server.draining.admits(known)
    server.draining.order(None)
    assert server.draining.admits(stranger)


def test_a_cancelled_drain_is_said_to_those_that_were_asked() -> None:
    server = Server()
    with pytest.raises(ConfigError, match="nothing to cancel"):
        server.draining.order(None)
    server.draining.order(60.0)
    server.asked()
    server.draining.order(None)
    assert server.asked() == [(0, Drain(0, 1)), (1, Drain(0, 2))]
    assert server.draining.view is None


def test_the_unencrypted_wires_have_nothing_to_drain() -> None:
    with pytest.raises(ConfigError, match="plain wire"):
        Server("plain").draining.order(60.0)


@pytest.mark.parametrize("n_left", [0, 1])
def test_the_gateway_ends_when_all_have_left_or_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, n_left: int
) -> None:
    monkeypatch.setattr(draining, "LOOK_INTERVAL_S", 0.001)
    monkeypatch.setattr(draining, "LINGER_S", 0.0)
    server = Server()
    server.draining.order(60.0 if n_left == 0 else 0.0)
    for slot in list(server.links)[n_left:]:
        del server.links[slot]
    asyncio.run(asyncio.wait_for(server.draining.run(), 10))
    assert server.ended == ["drained" if n_left == 0 else "drained, but for some peers"]


# -- a client -----------------------------------------------------------------------------------


class Client:
    """One on UDP at A, with endpoints of its own; its session has INDEX."""

    def __init__(self, *hosts: str) -> None:
        self.lane = RecordingLane()
        self.at = IPv4Address(A)
        self.health = EndpointHealth()
        self.link = link(0, self.lane, hosts=hosts)
        self.links = {0: self.link}
        self.tried: list[int] = []
        datagrams = SimpleNamespace(
            is_current=lambda slot, index: (slot, index) == (0, INDEX), doubt=self.tried.append
        )
        self.leaving = Leaving(
            cast(
                "Any",
                SimpleNamespace(
                    links=SimpleNamespace(by_slot=self.links, host_of=lambda _: self.at),
                    outside=SimpleNamespace(names=KnownNames().names(), health=self.health),
                    datagrams=datagrams,
                    sessions=None,
                ),
            )
        )

    def hear(self, seconds: int, index: int = INDEX) -> list[DrainTaken | None]:
        self.leaving.receive(0, index, drain_messages.encode(Drain(seconds, 3)))
        sent = [each for _, each, _ in self.lane.sent if isinstance(each, SendControl)]
        self.lane.sent.clear()
        return [drain_messages.decode(each.content, DrainTaken) for each in sent]


def test_a_client_that_is_asked_leaves_where_it_is_and_says_whether_it_has_elsewhere() -> None:
    client = Client(A, B)
    assert client.hear(60) == [DrainTaken(3, elsewhere=True)]
    assert client.leaving.is_asked(client.link)
    assert client.health.is_left(IPv4Address(A))
    assert not client.health.is_left(IPv4Address(B))
    client.at = IPv4Address(B)
    assert not client.leaving.is_asked(client.link)
    assert Client(A).hear(60) == [DrainTaken(3, elsewhere=False)]


def test_a_client_whose_gateways_are_all_drained_has_nowhere_to_go() -> None:
    client = Client(A, B)
    client.health.leave(IPv4Address(B), 60)
    assert client.hear(60) == [DrainTaken(3, elsewhere=False)]


def test_an_order_of_another_session_is_not_one() -> None:
    client = Client(A, B)
    assert client.hear(60, INDEX + 1) == []
    assert not client.leaving.is_asked(client.link)


def test_a_client_stays_away_for_an_hour_at_most_and_comes_back_when_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, now_s = Client(A, B), [1000.0]
    monkeypatch.setattr(clock, "boottime_s", lambda: now_s[0])
    client.hear(2**31 - 1)
    now_s[0] += DRAIN_MAX_S - 1
    assert client.health.is_left(IPv4Address(A))
    now_s[0] += 1
    assert not client.health.is_left(IPv4Address(A))
    client.hear(60)
    assert client.hear(0) == []
    assert not client.health.is_left(IPv4Address(A))


def test_what_a_server_says_under_ever_new_addresses_is_kept_of_a_few_of_them() -> None:
    client = Client(A, B)
    for n in range(3 * REMEMBERED_MAX):
        client.at = IPv4Address("198.18.0.0") + n
        client.hear(DRAIN_MAX_S)
    n_left = sum(
        client.health.is_left(IPv4Address("198.18.0.0") + n) for n in range(3 * REMEMBERED_MAX)
    )
    assert n_left == REMEMBERED_MAX
    assert client.health.is_left(client.at)  # the newest
    assert len(client.leaving._said) == 1  # noqa: SLF001 (nothing else shows what is kept)


def test_a_server_that_forges_anothers_address_has_no_one_leave_that_one() -> None:
    client, other = Client(A), "192.0.2.9"
    beside = link(1, client.lane, hosts=(other,))
    client.links[1] = beside
    client.at = IPv4Address(other)
    assert client.hear(60) == []
    assert not client.health.is_left(IPv4Address(other))
    beside.slotted.peer.endpoints = client.link.slotted.peer.endpoints  # both are there
    client.at = IPv4Address(A)
    assert len(client.hear(60)) == 1
    assert client.health.is_left(IPv4Address(A))


def test_a_client_is_not_drained() -> None:
    with pytest.raises(ConfigError, match="fastun disconnect"):
        Client(A).leaving.order(60.0)
