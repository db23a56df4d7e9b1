"""Hellos on UDP: said again until answered, agreed on, and pushed once a session."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
import structlog

from fastun import log
from fastun.config.push import Push
from fastun.lane.messages import SendKeepalive, SendMessage, SetSendingKey
from fastun.link import hello
from fastun.link.datagram import probe
from fastun.link.datagram.peer import HELLOS_MAX
from fastun.native import Aead
from fastun.session.messages import Data
from tests.support.datagram_pair import HELLO, Pair, rekey, run

pytestmark = pytest.mark.usefixtures("now")


def test_a_hello_counts_only_under_the_keys_in_use_and_only_if_it_is_one() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, software="another")
        await pair.begin()
        sessions, link = pair.server.sessions, pair.server.links.by_slot[0]
        assert link.peer_software == "another"
        pair.server.sockets.sent.clear()
        other = hello.encode(msgspec.structs.replace(HELLO, software="a third"))
        (index,) = pair.server.receiving
        sessions.on_control(0, index ^ 1, other)
        sessions.on_control(5, index, other)
        sessions.on_control(0, index, hello.TYPE + b"\xc1")
        assert pair.server.sockets.sent == []
        # Said again it is answered again, for the answer may have been lost; what it says counts
        # once a session.
        sessions.on_control(0, index, other)
        assert len(pair.server.sockets.sent) == 1
        assert link.peer_software == "another"

    run(claim())


def test_a_hello_is_answered_as_often_as_it_may_be_said_in_each_session(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        for _ in range(2):
            pair.server.sockets.sent.clear()
            for _ in range(3 * HELLOS_MAX):
                index = list(pair.server.receiving)[-1]
                pair.server.sessions.on_control(0, index, hello.encode(HELLO))
            assert len(pair.server.sockets.sent) == HELLOS_MAX - 1
            await rekey(pair, now)

    run(claim())


def test_a_hello_that_is_answered_is_not_answered() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.client.receiving
        pair.client.sessions.on_control(0, index, hello.encode(HELLO))
        assert pair.client.sockets.sent == []

    run(claim())


def test_a_hello_that_was_answered_is_not_said_again(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        now.s += 1.1
        pair.client.sessions.tick()
        assert pair.client.sockets.sent == []

    run(claim())


def test_a_hello_that_is_not_answered_is_said_again_but_not_for_ever(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.server.sessions._hellos.receive = lambda *_: None  # type: ignore[method-assign]  # noqa: SLF001
        await pair.begin()
        said = []
        for _ in range(12):
            now.s += 0.6
            pair.client.sessions.tick()
            said.append(len(pair.client.sockets.sent))
            pair.client.sockets.sent.clear()
        assert said[: 2 * (HELLOS_MAX - 1)] == [0, 1] * (HELLOS_MAX - 1)
        assert sum(said) == HELLOS_MAX - 1
        assert pair.client.links.by_slot[0].peer_software == hello.PLAIN_WIREGUARD

    run(claim())


def test_a_peer_that_asks_on_and_on_gets_an_answer_under_each_of_the_sessions_counters() -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        (index,) = pair.server.receiving
        pair.server.work()
        pair.server.commands_of(SendMessage)
        for _ in range(500):
            pair.server.sessions.on_control(0, index, probe.question(1300))
        pair.server.work()
        answers = pair.server.commands_of(SendMessage)
        counters = [Data.unpack(answer.message).counter for answer in answers]
        assert counters == list(range(1, 501)), "the hello took the first"

    run(claim())


def test_a_responder_that_waits_for_a_hello_sends_none(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.server.answer(await pair.client.begin(), pair.client.address)
        pair.server.sessions.on_key_confirmed(0, next(iter(pair.server.receiving)))
        pair.server.sockets.sent.clear()
        for _ in range(4):
            now.s += 0.6
            pair.server.sessions.tick()
        assert pair.server.sockets.sent == []

    run(claim())


def test_a_cipher_that_both_begin_with_is_set_once() -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, aeads=(hello.CHACHA,))
        await pair.begin()
        for side in (pair.client, pair.server):
            (given,) = side.commands_of(SetSendingKey)
            assert given.aead == Aead.CHACHA20_POLY1305

    run(claim())


def test_only_a_client_is_pushed_to_and_each_session_replaces_it(
    now: SimpleNamespace,
) -> None:
    async def claim() -> None:
        pair = Pair()
        push = Push(addresses=("10.9.0.2/24",), keepalive=25)
        pair.client.hello = pair.server.hello = msgspec.structs.replace(HELLO, push=push)
        await pair.begin()
        assert pair.client.pushed == [push]
        assert pair.server.pushed == []
        # The keepalive that it asks for is kept.
        now.s += 10.5
        pair.client.sessions.tick()
        pair.client.work()
        pair.client.commands_of(SendKeepalive)
        now.s += 25
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.commands_of(SendKeepalive) == [SendKeepalive(0)]
        # A server that was restarted pushes something else, and no keepalive any more.
        pair.server.hello = msgspec.structs.replace(HELLO, push=Push(mtu=1300))
        await rekey(pair, now)
        assert pair.client.pushed == [push, Push(mtu=1300)]
        now.s += 10.5
        pair.client.sessions.tick()
        pair.client.work()
        pair.client.commands_of(SendKeepalive)
        now.s += 25
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.commands_of(SendKeepalive) == []

    run(claim())


def test_a_peer_that_takes_no_pushes_is_answered_without_one(now: SimpleNamespace) -> None:
    del now

    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, abilities=frozenset())
        pair.server.hello = msgspec.structs.replace(HELLO, push=Push(mtu=1300))
        await pair.begin()
        assert pair.client.pushed == []
        assert pair.client.links.by_slot[0].peer_software == HELLO.software

    run(claim())


def test_a_keepalive_of_our_own_comes_before_one_that_is_pushed(now: SimpleNamespace) -> None:
    async def claim() -> None:
        pair = Pair(keepalive_s=5)
        push = Push(keepalive=25)
        pair.server.hello = msgspec.structs.replace(HELLO, push=push)
        await pair.begin()
        assert pair.client.pushed == [push]
        now.s += 5.5
        pair.client.sessions.tick()
        pair.client.work()
        assert pair.client.commands_of(SendKeepalive) == [SendKeepalive(0)]

    run(claim())


def test_on_udp_the_software_is_not_named_before_the_hello_has_said_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()

    log.configure("console", 0)
    run(claim())
    structlog.reset_defaults()
    lines = capsys.readouterr().err.splitlines()
    ups = [line for line in lines if " up " in line]
    assert len(ups) == 2
    assert not any("software" in line or "WireGuard" in line for line in ups)
    assert sum("hello" in line and "software='fastun test'" in line for line in lines) == 2


def test_ends_that_do_not_fit_together_both_say_why_once(
    now: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        pair = Pair()
        pair.client.hello = msgspec.structs.replace(HELLO, mode="tap")
        await pair.begin()
        for _ in range(3):
            now.s += 1
            pair.client.sessions.tick()
            await pair.settle()

    log.configure("console", 0)
    run(claim())
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot agree" in line]
    assert len(lines) == 2
    assert any("peer=ant" in line and "the peer's mode is tap, this side's tun" in line
               for line in lines)  # fmt: skip
    assert any("peer=server" in line and "the peer's mode is tun, this side's tap" in line
               for line in lines)  # fmt: skip
