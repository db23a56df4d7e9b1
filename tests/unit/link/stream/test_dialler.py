"""Dialling streams: in what order, how often, and when a dialling side gives up."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import socket
import weakref
from itertools import repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import log
from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import NoSuchNameError, NotYetError, UnresolvedError
from fastun.lane.messages import CLOSED_BY_PEER
from fastun.link import names as names_module
from fastun.link.hello import HelloError
from fastun.link.stream import dialler as dialler_module
from fastun.link.stream import sockets
from fastun.link.stream.dialler import CLOSED_SOON_MAX, SHORT_LINKS_AT_ONCE, SHORT_LINKS_MAX
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.inside_of import DEVICE
from tests.support.known_names import KnownNames
from tests.support.stream_owner import dialling, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sockets, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(sockets, "BACKOFF_MAX_S", 0.02)
    monkeypatch.setattr(dialler_module, "SHORT_LINK_PAUSE_S", 0.01)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


def test_what_is_inside_the_tunnel_is_not_dialled_and_that_is_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def claim() -> None:
        async with dialling(SimpleNamespace(hello=None)) as (_, handshaker, owner):
            owner.routes.to["127.0.0.1"] = DEVICE
            await asyncio.sleep(0.1)
            assert handshaker.asked == []
            owner.routes.to.clear()
            await until(lambda: owner.links)

    run(claim())
    assert capsys.readouterr().err.count("leads into the tunnel itself") == 1


@pytest.mark.parametrize(
    "failure", [HelloError("no hello"), HandshakeError(Refusal.BAD_MAC1), TimeoutError(), OSError()]
)
def test_after_a_failed_handshake_the_connection_is_closed_and_dialled_again(
    failure: Exception,
) -> None:
    async def claim() -> None:
        async with dialling(failure, SimpleNamespace(hello=None)) as (_, handshaker, owner):
            await until(lambda: owner.links)
            assert handshaker.asked[0].fileno() == -1
            assert handshaker.asked[1].fileno() >= 0

    run(claim())


def test_a_link_that_ends_is_dialled_again() -> None:
    async def claim() -> None:
        established = SimpleNamespace(hello=None)
        async with dialling(established, established) as (_, _handshaker, owner):
            await until(lambda: owner.links)
            await asyncio.sleep(0.1)
            assert len(owner.links) == 1
            owner.links[0].ended.set()
            await until(lambda: len(owner.links) == 2)

    run(claim())


class Agreement:
    """A handshake's result, with keys in it: what keeps it keeps those."""

    hello = None


def test_while_the_link_lives_the_keys_of_its_handshake_are_not_kept() -> None:
    async def claim() -> None:
        async with dialling(Agreement) as (_, _handshaker, owner):
            await until(lambda: owner.links)
            kept = weakref.ref(owner.links[0].established)
            owner.links[0].established = None
            await asyncio.sleep(0.05)
            gc.collect()
            assert kept() is None

    run(claim())


@pytest.mark.parametrize("error", [NotYetError("no DNS"), NoSuchNameError("no such name")])
@pytest.mark.parametrize("n_links_before", [0, 1])
def test_a_name_that_does_not_resolve_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: UnresolvedError, n_links_before: int
) -> None:
    for module in (dialler_module, names_module):
        monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def claim() -> None:
        dns, established = KnownNames(), SimpleNamespace(hello=None)
        dns.answers["vpn"] = ["127.0.0.1"] if n_links_before else error
        async with dialling(established, established, dns=dns, name="vpn") as (task, _, owner):
            if n_links_before:
                await until(lambda: owner.links)
                dns.answers["vpn"] = error
                owner.links[0].ended.set()
            else:
                await until(lambda: len(dns.asked) > 2)
                assert owner.links == []
                assert not task.done()
                dns.answers["vpn"] = ["127.0.0.1"]
            await until(lambda: len(owner.links) == n_links_before + 1)

    run(claim())


def test_an_endpoint_that_refuses_does_not_keep_from_the_next() -> None:
    async def claim() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            endpoints = tuple(
                Endpoint("tcp", "127.0.0.1", end.getsockname()[1]) for end in (closed, server)
            )
            established = SimpleNamespace(hello=None)
            async with dialling(established, endpoints=endpoints) as (_, _handshaker, owner):
                await until(lambda: owner.links)
                assert owner.links[0].remote == str(endpoints[1])

    run(claim())


def count_first_waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that has an item each time that the waits begin anew."""
    begun: list[None] = []

    def delays() -> Iterator[float]:
        begun.append(None)
        return itertools.repeat(0.005)

    monkeypatch.setattr(sockets, "backoff_delays_s", delays)
    monkeypatch.setattr(dialler_module, "LASTING_LINK_S", 0.1)
    return begun


@pytest.mark.parametrize("has_hello", [True, False])
@pytest.mark.parametrize(
    ("lived_s", "end_reason", "is_first_again"),
    [
        (0.0, "the peer closed the connection", False),
        (0.2, "any", True),
        (0.0, "", True),
        (0.0, "link-reader died", True),
    ],
    ids=["at-once", "lasted", "udp-took-over", "worker-died"],
)
def test_only_a_link_that_has_lasted_makes_the_first_wait_short_again(
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_hello: bool,
    lived_s: float,
    end_reason: str,
    is_first_again: bool,
) -> None:
    begun = count_first_waits(monkeypatch)

    async def claim() -> None:
        established = SimpleNamespace(hello=object() if has_hello else None)
        async with dialling(established, established) as (_, _handshaker, owner):
            await until(lambda: owner.links)
            await asyncio.sleep(lived_s)
            end(owner.links[0], end_reason)
            await until(lambda: len(owner.links) == 2)
            # one of failed attempts and one of short links at the start, the former with each link
            assert len(begun) == 2 + 2 + is_first_again

    run(claim())


def test_a_link_of_any_life_makes_the_pauses_after_failed_attempts_short_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "backoff_delays_s", lambda: itertools.chain([0.01], repeat(60.0)))

    async def claim() -> None:
        failure, established = HelloError("no hello"), SimpleNamespace(hello=None)
        outcomes = (failure, established, failure, established)
        async with dialling(*outcomes) as (_, _handshaker, owner):
            await until(lambda: owner.links)
            end(owner.links[0], CLOSED_BY_PEER)
            await until(lambda: len(owner.links) == 2)

    run(claim())


@pytest.mark.parametrize(("number", "is_soon"), [(errno.EMFILE, True), (errno.ECONNREFUSED, False)])
@pytest.mark.parametrize("is_connected", [False, True])
def test_what_this_host_refuses_is_tried_again_without_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, number: int, *, is_soon: bool, is_connected: bool
) -> None:
    monkeypatch.setattr(sockets, "backoff_delays_s", lambda: repeat(60.0))
    monkeypatch.setattr(dialler_module, "OF_THIS_HOST_PAUSE_S", 0.01)
    really, refused = sockets.dial, [OSError(number, "refused")] * 5

    async def dial(*arguments: Any) -> socket.socket:
        if refused and not is_connected:
            raise refused.pop()
        return await really(*arguments)

    monkeypatch.setattr(sockets, "dial", dial)

    async def claim() -> None:
        failures = refused if is_connected else []
        async with dialling(*failures, SimpleNamespace(hello=None)) as (_, _handshaker, owner):
            if is_soon:
                await until(lambda: owner.links)
            await asyncio.sleep(0.1)
            assert len(owner.links) == is_soon

    run(claim())


@pytest.mark.parametrize(
    ("lived_s", "reason"),
    [(0.2, CLOSED_BY_PEER), (0.0, "link-writer died"), (0.0, CLOSED_BY_PEER)],
    ids=["lasted", "worker-died", "first-short-ones"],
)
def test_after_the_end_of_such_a_link_there_is_no_pause(
    monkeypatch: pytest.MonkeyPatch, lived_s: float, reason: str
) -> None:
    monkeypatch.setattr(sockets, "backoff_delays_s", lambda: itertools.repeat(60.0))
    monkeypatch.setattr(dialler_module, "SHORT_LINK_PAUSE_S", 120.0)
    monkeypatch.setattr(dialler_module, "LASTING_LINK_S", 0.1)

    async def claim() -> None:
        outcomes = [SimpleNamespace(hello=object()) for _ in range(SHORT_LINKS_AT_ONCE + 1)]
        async with dialling(*outcomes) as (_, _handshaker, owner):
            for n in range(SHORT_LINKS_AT_ONCE):
                await until(lambda n=n: len(owner.links) == n + 1)
                await asyncio.sleep(lived_s)
                end(owner.links[n], reason)
            await until(lambda: len(owner.links) == SHORT_LINKS_AT_ONCE + 1)

    run(claim())


def test_links_that_end_at_once_again_and_again_are_dialled_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialler_module, "SHORT_LINK_PAUSE_S", 120.0)

    async def claim() -> None:
        outcomes = [SimpleNamespace(hello=object()) for _ in range(SHORT_LINKS_AT_ONCE + 2)]
        async with dialling(*outcomes) as (_, _handshaker, owner):
            for n in range(SHORT_LINKS_AT_ONCE + 1):
                await until(lambda n=n: len(owner.links) == n + 1)
                end(owner.links[n], CLOSED_BY_PEER)
            await asyncio.sleep(0.1)
            assert len(owner.links) == SHORT_LINKS_AT_ONCE + 1

    run(claim())


def test_the_pauses_grow_only_after_so_many_short_links_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "backoff_delays_s", lambda: itertools.repeat(60.0))

    async def claim() -> None:
        outcomes = [SimpleNamespace(hello=object()) for _ in range(SHORT_LINKS_MAX + 2)]
        async with dialling(*outcomes) as (_, _handshaker, owner):
            for n in range(SHORT_LINKS_MAX + 1):
                await until(lambda n=n: len(owner.links) == n + 1)
                end(owner.links[n], CLOSED_BY_PEER)
            await asyncio.sleep(0.1)
            assert len(owner.links) == SHORT_LINKS_MAX + 1

    run(claim())


def end(link: Any, reason: str) -> None:
    link.end_reason = reason
    link.ended.set()


@pytest.mark.parametrize(
    ("reason", "n_said"),
    [(CLOSED_BY_PEER, 1), ("Connection reset by peer", 1), ("link-reader died", 0)],
)
def test_a_server_that_closes_link_after_link_makes_one_warning_with_the_likely_cause(
    capsys: pytest.CaptureFixture[str], reason: str, n_said: int
) -> None:
    async def claim() -> None:
        outcomes = [SimpleNamespace(hello=object()) for _ in range(CLOSED_SOON_MAX + 3)]
        async with dialling(*outcomes) as (_, _handshaker, owner):
            for n in range(CLOSED_SOON_MAX + 2):
                await until(lambda n=n: len(owner.links) == n + 1)
                is_due = n == CLOSED_SOON_MAX and n_said == 1
                assert ("another host" in capsys.readouterr().err) is is_due
                end(owner.links[n], reason)

    run(claim())


def test_an_address_that_connects_and_gives_no_link_is_tried_after_the_others() -> None:
    async def claim() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as first,
            socket.create_server(("127.0.0.1", 0)) as second,
        ):
            endpoints = tuple(
                Endpoint("tcp", "127.0.0.1", each.getsockname()[1]) for each in (first, second)
            )
            outcomes = (HelloError("no hello"), HelloError("no hello"), SimpleNamespace(hello=None))
            async with dialling(*outcomes, endpoints=endpoints) as (_, handshaker, owner):
                await until(lambda: owner.links)
                assert owner.links[0].remote == str(endpoints[0])
                assert len(handshaker.asked) == 3

    run(claim())


@pytest.mark.parametrize("changes", [True, False])
def test_a_change_of_routes_ends_the_pause_after_a_failed_connection(
    monkeypatch: pytest.MonkeyPatch, *, changes: bool
) -> None:
    monkeypatch.setattr(sockets, "backoff_delays_s", lambda: itertools.repeat(60.0))
    monkeypatch.setattr(dialler_module, "CHANGE_PAUSE_S", 0.05)

    async def claim() -> None:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            endpoint = Endpoint("tcp", "127.0.0.1", server.getsockname()[1])
            established = SimpleNamespace(hello=None)
            async with dialling(established, endpoints=(endpoint,)) as (_, _handshaker, owner):
                await asyncio.sleep(0.05)
                server.listen()
                owner.routes.have_come = changes
                owner.inside.routes_have_changed()
                await asyncio.sleep(0.2)
                assert len(owner.links) == changes

    run(claim())


def test_waits_grow_up_to_a_longest_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "BACKOFF_FIRST_S", 1.0)
    monkeypatch.setattr(sockets, "BACKOFF_MAX_S", 3.0)
    for longest, delay in zip((1, 1.5, 2.25, 3, 3, 3), sockets.backoff_delays_s(), strict=False):
        assert longest / 2 <= delay <= longest
    firsts = {next(sockets.backoff_delays_s()) for _ in range(10)}
    assert len(firsts) > 1


def test_no_wait_is_much_longer_than_all_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(sockets, "BACKOFF_MAX_S", 30.0)
    for _ in range(50):
        passed_s = 0.0
        for delay in itertools.islice(sockets.backoff_delays_s(), 12):
            assert delay <= passed_s + 0.101
            passed_s += delay
