"""Where a peer is: the later initiation is right, in whatever order two gateways say so."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastun.errors import ConfigError
from fastun.fleet import presence
from fastun.fleet.messages import PEERS_MAX, Claims, Elsewhere, Place
from fastun.fleet.postgres import PostgresDirectory
from fastun.fleet.presence import Presence
from fastun.gateway.presence import Presence as GatewayPresence
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import tai64n
from fastun.session.initiation_guard import InitiationGuard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster

A, B = b"a" * 32, b"b" * 32
START_NS = time.time_ns()


def stamp(n: float) -> bytes:
    return tai64n.from_unix_ns(START_NS + round(n * 10**9))


def claims(key: bytes, n: float) -> Claims:
    return Claims(here=(Place(public_key=key, initiated=stamp(n)),))


@pytest.fixture
def directory(postgres: Cluster) -> Iterator[PostgresDirectory]:
    with PostgresDirectory(postgres.peer_directory()) as opened:
        yield opened


def at(directory: PostgresDirectory, key: bytes = A) -> Any:
    rows = directory.connection.execute(
        "SELECT gateway, initiated FROM presence WHERE public_key = %s", (key,)
    ).fetchall()
    return rows[0] if rows else None


def read(one: Presence, directory: PostgresDirectory) -> list[Place]:
    return [place for message in one.read(directory) for place in message.peers]


def test_a_later_claim_moves_a_peer_and_an_earlier_one_does_not(
    directory: PostgresDirectory,
) -> None:
    first, second = Presence("gw1"), Presence("gw2")
    first.claim(claims(A, 1))
    first.write(directory)
    assert read(second, directory) == [Place(public_key=A, initiated=stamp(1))]
    second.claim(claims(A, 3))
    second.write(directory)
    won = Place(public_key=A, initiated=stamp(3), over=stamp(1))
    assert read(first, directory) == [won]
    for late in (claims(A, 2), claims(A, 3)):  # it was on its way; or both were asked alike
        first.claim(late)
        first.write(directory)
        assert at(directory) == ("gw2", stamp(3))
    first.claim(Claims(gone=(A,)))  # what it has let go is not the other's loss
    first.write(directory)
    assert at(directory) == ("gw2", stamp(3))
    assert read(first, directory) == []


def test_what_a_gateway_had_before_it_died_is_nowhere_once_it_is_back(
    directory: PostgresDirectory,
) -> None:
    before = Presence("gw1")
    before.claim(claims(A, 1))
    before.claim(claims(B, 1))
    before.write(directory)
    after = Presence("gw1")
    assert after.has_news
    after.claim(claims(B, 2))
    after.write(directory)
    assert not after.has_news
    assert (at(directory, A), at(directory, B)) == ((None, stamp(1)), ("gw1", stamp(2)))
    after.claim(Claims(gone=(B,)))
    after.write(directory)
    assert at(directory, B) == (None, stamp(2))  # the mark stays


def test_what_was_claimed_without_the_database_is_written_later(
    directory: PostgresDirectory,
) -> None:
    one = Presence("gw1")
    one.write(directory)
    one.claim(claims(A, 1))
    one.claim(claims(B, 1))
    one.claim(Claims(gone=(B,)))
    one.begin()  # the connection is a new one
    one.write(directory)
    assert at(directory, A) == ("gw1", stamp(1))
    assert at(directory, B) is None


def test_many_are_read_in_parts(directory: PostgresDirectory) -> None:
    one, other = Presence("gw1"), Presence("gw2")
    keys = [n.to_bytes(32, "big") for n in range(1, PEERS_MAX + 10)]
    for key in keys:
        one.claim(claims(key, 1))
    one.write(directory)
    parts = [len(message.peers) for message in other.read(directory)]
    assert parts == [PEERS_MAX, 9]


def test_a_clock_that_is_years_ahead_marks_minutes_ahead(directory: PostgresDirectory) -> None:
    one = Presence("gw1")
    one.claim(claims(A, 10**8))
    one.write(directory)
    _, mark = at(directory)
    assert tai64n.to_unix_s(mark) - time.time() <= presence.AHEAD_S


def test_where_a_clients_clock_is_ahead_the_gateway_that_it_came_to_last_has_it(
    directory: PostgresDirectory,
) -> None:
    first, second = Presence("gw1"), Presence("gw2")
    holder = Holder()
    here = GatewayPresence(holder, lambda _: True)  # type: ignore[arg-type]
    holder.slotted.guard.last_timestamp = stamp(10**8)
    here.on_session(holder.slotted)  # type: ignore[arg-type]
    first.claim(claims(A, 10**8))
    first.write(directory)
    time.sleep(0.02)  # marks are a whitened clock's
    second.claim(claims(A, 10**8 + 1))
    second.write(directory)
    assert at(directory)[0] == "gw2"
    (place,) = read(first, directory)
    assert place.initiated < stamp(10**8)  # cut short
    here.take(Elsewhere(peers=(place,)))
    assert holder.ended == ["the peer is connected to another gateway", "keys of 3"]
    first.claim(claims(A, 10**8 + 2))  # it is back, and that has still to be written
    time.sleep(0.02)
    second.claim(claims(A, 10**8 + 3))
    second.write(directory)
    (place,) = read(first, directory)
    assert place.over == tai64n.NEVER


def test_a_gateways_own_clock_decides_nothing(
    directory: PostgresDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = Presence("gw1"), Presence("gw2")
    first.claim(claims(A, 1))
    first.write(directory)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: START_NS - 10**13)
        late.claim(claims(A, 2))
        late.write(directory)
    assert at(directory) == ("gw2", stamp(2))


def test_a_reset_mark_is_forgotten_everywhere_and_a_removed_peer_is_nowhere(
    directory: PostgresDirectory, tmp_path: Path
) -> None:
    directory.add(Peer(name="a", public_key=A))
    one, other = Presence("gw1"), Presence("gw2")
    one.claim(claims(A, 5))
    one.write(directory)
    read(one, directory)
    read(other, directory)
    directory.reset_timestamp("a")
    for each in (one, other):
        assert [place.initiated for place in read(each, directory)] == [tai64n.NEVER]
    directory.replace("a", Peer(name="a", public_key=B))  # another key has been nowhere
    assert at(directory, A) is None
    with PeerStore(tmp_path) as store:
        store.add(Peer(name="a", public_key=A))
        with pytest.raises(ConfigError, match="forgets them when it is restarted"):
            store.reset_timestamp("a")


STEPS = st.lists(st.tuples(st.sampled_from(["gw1", "gw2", "gw3"]), st.integers(0, 20)), max_size=12)


@settings(
    max_examples=settings().max_examples // 6,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_in_whatever_order_claims_come_the_first_with_the_latest_time_is_right(
    directory: PostgresDirectory, steps: list[tuple[str, int]]
) -> None:
    directory.connection.execute("DELETE FROM presence")
    gateways = {name: Presence(name) for name in ("gw1", "gw2", "gw3")}
    for each in gateways.values():
        each.write(directory)
    best: tuple[str, int] | None = None
    for name, n in steps:
        gateways[name].claim(claims(A, n))
        gateways[name].write(directory)
        if best is None or n > best[1]:
            best = name, n
    assert at(directory) == (None if best is None else (best[0], stamp(best[1])))
    for name, each in gateways.items():
        heard = {place.public_key: place for place in read(each, directory)}
        assert (A in heard) is (best is not None and best[0] != name)


# -- the gateway's side -------------------------------------------------------------------------


class Holder:
    """A gateway with one peer, which has a link."""

    def __init__(self) -> None:
        self.slotted = SimpleNamespace(
            slot=3, peer=Peer(name="a", public_key=A), guard=InitiationGuard()
        )
        self.ended: list[str] = []
        self.links = SimpleNamespace(by_slot={3: object()}, end=self._end)
        self.peer_slots = SimpleNamespace(holder_of={A: self.slotted}.get)
        self.datagrams = SimpleNamespace(let_go=lambda slot: self.ended.append(f"keys of {slot}"))

    def _end(self, slot: int, why: str) -> None:
        self.links.by_slot.pop(slot, None)
        self.ended.append(why)


def elsewhere(key: bytes, initiated: bytes, *, is_there: bool = True) -> Elsewhere:
    return Elsewhere(peers=(Place(public_key=key, initiated=initiated, is_there=is_there),))


def test_a_gateway_lets_go_of_a_peer_that_came_elsewhere_later_and_of_no_other() -> None:
    holder = Holder()
    here = GatewayPresence(holder, lambda _: True)  # type: ignore[arg-type]
    holder.slotted.guard.last_timestamp = stamp(5)
    here.on_session(holder.slotted)  # type: ignore[arg-type]
    here.take(elsewhere(A, stamp(4)))
    here.take(elsewhere(A, stamp(5)))
    here.take(elsewhere(A, stamp(6), is_there=False))
    here.take(elsewhere(B, stamp(6)))
    assert holder.ended == []
    assert holder.slotted.guard.last_timestamp == stamp(6)
    here.take(elsewhere(A, stamp(7)))
    assert holder.ended == ["the peer is connected to another gateway", "keys of 3"]
    here.take(elsewhere(A, stamp(3)))
    assert holder.slotted.guard.last_timestamp == stamp(7)
    here.take(elsewhere(A, tai64n.NEVER, is_there=False))
    assert holder.slotted.guard.last_timestamp == tai64n.NEVER
