"""A connection a lane: what its handshake says, and which of them may be."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest

from fastun.config.push import DATAGRAM_HELLO_BYTES_MAX, Push
from fastun.link import hello
from fastun.link.hello import HelloError
from fastun.link.key_exchange import KeyExchange
from fastun.link.stream.handshake import SealedHandshaker
from tests.support.parties import CLIENT, SERVER
from tests.support.stream_handshake import HELLO, peer, peer_slots_of, pushed_to, together

BUNDLE = 0x1234_5678_9ABC


def sides(n_server: int, n_client: int) -> tuple[SealedHandshaker, SealedHandshaker]:
    serving = SealedHandshaker(
        KeyExchange(
            peer_slots_of(peer("ant", CLIENT)),
            SERVER,
            lambda slotted: msgspec.structs.replace(HELLO, lanes=n_server, push=pushed_to(slotted)),
        )
    )
    connecting = SealedHandshaker(
        KeyExchange(
            peer_slots_of(peer("server", SERVER)),
            CLIENT,
            lambda _: msgspec.structs.replace(HELLO, lanes=n_client, bundle=BUNDLE),
        )
    )
    return serving, connecting


def connect(n_server: int, n_client: int, number: int) -> tuple[Any, Any, SealedHandshaker]:
    serving, connecting = sides(n_server, n_client)
    dial = functools.partial(connecting.connect, number=number)
    return *together(serving.accept, dial), serving


@pytest.mark.parametrize("number", [0, 1, 3])
def test_both_sides_know_which_connection_it_is_and_how_many_there_may_be(number: int) -> None:
    accepted, connected, _ = connect(4, 5, number)
    for side in (accepted, connected):
        assert (side.number, side.bundle) == (number, BUNDLE)
    assert (accepted.hello.lanes, connected.hello.lanes) == (5, 4)


def test_only_the_first_is_pushed_to() -> None:
    for number in (0, 1):
        accepted, connected, _ = connect(2, 2, number)
        assert (connected.hello.push is None) == (number > 0)
        assert (accepted.slotted.pushed is None) == (number > 0)


@pytest.mark.parametrize(("n_server", "number"), [(1, 1), (2, 2), (2, 254)])
def test_more_than_the_server_offers_are_refused(n_server: int, number: int) -> None:
    accepted, connected, _ = connect(n_server, 255, number)
    assert isinstance(accepted, HelloError)
    assert "more connections than this side offers" in str(accepted)
    assert isinstance(connected, Exception)


def test_a_side_with_one_lane_says_nothing_of_lanes() -> None:
    said = msgspec.msgpack.decode(hello.encode(HELLO)[len(hello.TYPE) :])
    assert said.keys().isdisjoint({"lanes", "lane", "bundle", "ways"})
    several = msgspec.structs.replace(HELLO, lanes=2, lane=1, bundle=7)
    assert hello.decode(hello.encode(several)) == several
    assert hello.encode(hello.on_datagrams(several, ())) == hello.encode(HELLO)


def test_on_udp_a_side_says_as_many_ways_as_it_may_have_to_the_peer() -> None:
    several = msgspec.structs.replace(HELLO, lanes=3, lane=1, bundle=7)
    said = hello.on_datagrams(several, (2**32 - 1, 0, 5))
    assert (said.lanes, said.lane, said.bundle, said.ways) == (1, 0, 7, (2**32 - 1, 0))
    assert hello.decode(hello.encode(said)) == said
    alone = msgspec.structs.replace(HELLO, bundle=7)
    assert hello.encode(hello.on_datagrams(alone, (1, 2))) == hello.encode(HELLO)


@pytest.mark.parametrize("n_routes", range(90))
def test_beside_a_long_push_there_are_as_many_ways_as_its_datagram_has_room_for(
    n_routes: int,
) -> None:
    pushed = Push(routes=tuple(f"10.100.{n}.0/24" for n in range(n_routes)))
    several = msgspec.structs.replace(HELLO, lanes=16, bundle=2**62, push=pushed)
    indices = tuple(range(2**32 - 15, 2**32))
    said = hello.on_datagrams(several, indices)
    n_bytes = len(hello.encode(said))
    without = hello.encode(msgspec.structs.replace(HELLO, push=pushed))
    is_long = len(without) > DATAGRAM_HELLO_BYTES_MAX - 24
    assert said.ways == indices[: len(said.ways)]
    assert n_bytes <= DATAGRAM_HELLO_BYTES_MAX or (is_long and said.ways == ())
    assert len(said.ways) == 15 or n_bytes > DATAGRAM_HELLO_BYTES_MAX - 29


@pytest.mark.parametrize(
    "wrong",
    [{"lanes": 0}, {"lanes": 256}, {"lane": -1}, {"lane": 255}, {"bundle": -1}, {"ways": [-1]}],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    fields = msgspec.msgpack.decode(hello.encode(HELLO)[len(hello.TYPE) :])
    with pytest.raises(HelloError, match="malformed"):
        hello.decode(hello.TYPE + msgspec.msgpack.encode({**fields, **wrong}))
