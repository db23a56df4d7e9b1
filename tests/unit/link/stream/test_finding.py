"""Finding links: who is let wait, who has to go, and when a dialling side gives up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog

from fastun import descriptors, log
from fastun.endpoint import Endpoint
from fastun.errors import RuntimeFailure
from fastun.gateway.gateway import LinkCounts
from fastun.link.hello import HelloError
from fastun.link.source_limits import SourceLimits
from fastun.link.stream import arrivals, finding
from fastun.link.stream import sockets as tcp
from fastun.link.stream.finding import Acceptor, Dialler
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.descriptors import limited_to, next_free, no_descriptor_left
from tests.support.inside_of import DEVICE, Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from fastun.gateway.gateway import Gateway
    from fastun.link.inside import Inside
    from fastun.link.stream.handshake import Handshaker


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tcp, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(tcp, "BACKOFF_MAX_S", 0.02)
    monkeypatch.setattr(finding, "OLD_LINK_GRACE_S", 0.2)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


class Greets:
    """A handshaker that does with each connection what it was told to, in turn; else it waits."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[socket.socket] = []
        self.opening_bytes = 0
        self.openings: list[bytes] = []

    def check_opening(self, opening: bytes) -> None:
        if not b"open".startswith(opening):
            raise HandshakeError(Refusal.BAD_TYPE)

    async def accept(self, connection: socket.socket, opening: bytes = b"") -> object:
        self.asked.append(connection)
        self.openings.append(opening)
        if not self.outcomes:
            await asyncio.sleep(60)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome() if callable(outcome) else outcome

    connect = accept


class Established:
    """A gateway that takes every link, or has no room until `old` has ended."""

    def __init__(self, old: asyncio.Event | None = None) -> None:
        self.old = old
        self.settings = SimpleNamespace(fwmark=0)
        self.routes = Routes()
        self.inside = self.routes.inside()
        self.peer_slots = SimpleNamespace(
            by_slot={0: SimpleNamespace(peer=Peer(name="ant", public_key=bytes(32)))}
        )
        self.links: list[Any] = []
        self.connections: list[socket.socket] = []

    def has_room(self) -> bool:
        return self.old is None or self.old.is_set()

    def room_made(self) -> asyncio.Event | None:
        return None if self.has_room() else self.old

    def establish(self, established: object, connection: socket.socket, remote: str) -> object:
        link = SimpleNamespace(established=established, remote=remote, ended=asyncio.Event())
        self.links.append(link)
        self.connections.append(connection)
        return link


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what is waited for is a list that grows)
            await asyncio.sleep(0.005)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


# -- accepting --------------------------------------------------------------------------------


class Accepting:
    def __init__(self, handshaker: Greets, gateway: Established) -> None:
        self.handshaker, self.gateway, self.counts = handshaker, gateway, LinkCounts()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.clients: list[socket.socket] = []

    def acceptor(self) -> Acceptor:
        endpoints = (Endpoint("tcp", "0.0.0.0", self.port),)  # noqa: S104 (127.0.0.2, too)
        handshaker, gateway = cast("Handshaker", self.handshaker), cast("Gateway", self.gateway)
        return Acceptor(endpoints, handshaker, gateway, self.counts)

    async def dial(self, source: str = "127.0.0.1") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 5, (source, 0))
        client.setblocking(False)
        self.clients.append(client)
        await asyncio.sleep(0)
        return client

    async def is_closed(self, client: socket.socket) -> bool:
        async with asyncio.timeout(5):
            try:
                return await asyncio.get_running_loop().sock_recv(client, 1) == b""
            except ConnectionResetError:
                return True


@contextlib.asynccontextmanager
async def accepting(
    *outcomes: object, old: asyncio.Event | None = None, fwmark: int = 0
) -> AsyncIterator[Accepting]:
    office = Accepting(Greets(*outcomes), Established(old))
    office.gateway.settings.fwmark = fwmark
    task = asyncio.create_task(office.acceptor().run())
    await asyncio.sleep(0.02)
    try:
        yield office
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for connection in (*office.clients, *office.gateway.connections):
            connection.close()


def test_who_greets_well_becomes_a_link_whose_connection_stays_open() -> None:
    async def claim() -> None:
        async with accepting("established") as office:
            client = await office.dial()
            await until(lambda: office.gateway.links)
            (link,) = office.gateway.links
            assert link.established == "established"
            assert link.remote == f"127.0.0.1:{client.getsockname()[1]}"
            assert office.gateway.connections[0].fileno() >= 0
            assert office.counts == LinkCounts()

    run(claim())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN, to mark packets")
def test_an_accepted_connection_has_the_mark_by_which_its_route_is_asked() -> None:
    async def claim() -> None:
        async with accepting("established", fwmark=7) as office:
            await office.dial()
            await until(lambda: office.gateway.links)
            (connection,) = office.gateway.connections
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 7

    run(claim())


def test_what_is_inside_the_tunnel_is_not_dialled_and_that_is_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def claim() -> None:
        async with dialling(SimpleNamespace(hello=None)) as (_, handshaker, gateway):
            gateway.routes.to["127.0.0.1"] = DEVICE
            await asyncio.sleep(0.1)
            assert handshaker.asked == []
            gateway.routes.to.clear()
            await until(lambda: gateway.links)

    run(claim())
    assert capsys.readouterr().err.count("leads into the tunnel itself") == 1


@pytest.mark.parametrize(
    "failure", [HelloError("no hello"), HandshakeError(Refusal.BAD_MAC1), TimeoutError(), OSError()]
)
def test_who_greets_badly_is_closed_and_counted(failure: Exception) -> None:
    async def claim() -> None:
        async with accepting(failure) as office:
            client = await office.dial()
            assert await office.is_closed(client)
            assert office.gateway.links == []
            assert office.counts == LinkCounts(failed_hellos=1)

    run(claim())


def test_of_too_many_from_one_source_its_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_PER_SOURCE_MAX", 3)

    async def claim() -> None:
        async with accepting() as office:
            other = await office.dial("127.0.0.2")
            clients = [await office.dial() for _ in range(3)]
            await until(lambda: len(office.handshaker.asked) == 4)
            assert office.counts.refused == 0
            await office.dial()
            assert await office.is_closed(clients[0])
            await until(lambda: len(office.handshaker.asked) == 5)
            assert office.counts.refused == 1
            for waiting in (other, *clients[1:]):
                with pytest.raises(BlockingIOError):
                    waiting.recv(1)

    run(claim())


def test_of_too_many_in_all_the_oldest_of_the_source_that_has_most_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_MAX", 4)

    async def claim() -> None:
        async with accepting() as office:
            clients = [await office.dial(f"127.0.0.{n}") for n in (2, 3, 3, 4)]
            await until(lambda: len(office.handshaker.asked) == 4)
            assert office.counts.refused == 0
            await office.dial("127.0.0.5")
            assert await office.is_closed(clients[1])
            await until(lambda: len(office.handshaker.asked) == 5)
            assert office.counts.refused == 1
            for waiting in (clients[0], *clients[2:]):
                with pytest.raises(BlockingIOError):
                    waiting.recv(1)

    run(claim())


def test_a_greeting_that_is_over_makes_room_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_PER_SOURCE_MAX", 2)

    async def claim() -> None:
        async with accepting(*[HelloError("no hello")] * 10) as office:
            for _ in range(10):
                assert await office.is_closed(await office.dial())
            assert office.counts == LinkCounts(refused=0, failed_hellos=10)

    run(claim())


def test_while_another_is_connected_who_comes_is_refused_unheard() -> None:
    async def claim() -> None:
        async with accepting(old=asyncio.Event()) as office:
            assert await office.is_closed(await office.dial())
            assert office.handshaker.asked == []
            assert office.counts == LinkCounts(refused=1)

    run(claim())


def test_who_comes_before_the_old_link_has_ended_is_given_a_moment() -> None:
    async def claim() -> None:
        old = asyncio.Event()
        async with accepting("established", old=old) as office:
            await office.dial()
            await asyncio.sleep(0.05)
            assert office.handshaker.asked == []
            old.set()
            await until(lambda: office.gateway.links)
            assert office.counts.refused == 0

    run(claim())


def test_a_source_over_its_limit_is_closed_unheard_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = SourceLimits(per_second=1, burst=20)  # full again in 20 s
    monkeypatch.setattr(finding, "SourceLimits", lambda: slow)

    async def claim() -> None:
        async with accepting(*[HelloError("no hello")] * 50) as office:
            for _ in range(40):
                assert await office.is_closed(await office.dial())
            n_asked = len(office.handshaker.asked)
            assert 20 <= n_asked < 40
            assert office.counts.refused == 40 - n_asked
            assert await office.is_closed(await office.dial("127.0.0.2"))
            assert len(office.handshaker.asked) == n_asked + 1

    run(claim())
    log = capsys.readouterr().err
    assert log.count("too many from one source") == 1
    assert "source=127.0.0.1" in log


def test_a_connection_costs_a_task_only_when_its_first_message_is_there() -> None:
    async def claim() -> None:
        async with accepting("established") as office:
            office.handshaker.opening_bytes = 4
            silent, honest = await office.dial(), await office.dial()
            honest.send(b"open and more")
            await until(lambda: office.gateway.links)
            assert office.handshaker.openings == [b"open"]
            assert office.gateway.connections[0].recv(100) == b" and more"
            with pytest.raises(BlockingIOError):
                silent.recv(1)

    run(claim())


def test_who_is_greeted_is_not_let_go_for_those_who_are_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_PER_SOURCE_MAX", 2)

    async def claim() -> None:
        async with accepting() as office:
            office.handshaker.opening_bytes = 4
            honest = await office.dial()
            honest.send(b"open")
            await until(lambda: office.handshaker.asked)
            silent = [await office.dial() for _ in range(5)]
            for gone in silent[:3]:
                assert await office.is_closed(gone)
            for waiting in (honest, *silent[3:]):
                with pytest.raises(BlockingIOError):
                    waiting.recv(1)

    run(claim())


def test_who_is_still_greeting_when_the_gateway_stops_is_let_go() -> None:
    async def claim() -> None:
        async with accepting() as office:
            client = await office.dial()
            await until(lambda: office.handshaker.asked)
        # The context has closed the client's end as well; the accepted one was the acceptor's.
        assert office.handshaker.asked[0].fileno() == -1
        assert client.fileno() == -1

    run(claim())


def test_who_comes_when_no_descriptor_is_left_is_accepted_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finding, "ACCEPT_RETRY_S", 0.05)

    async def claim() -> None:
        async with accepting("established") as office:
            with socket.socket() as client:
                with no_descriptor_left():
                    client.connect(("127.0.0.1", office.port))
                    await asyncio.sleep(0.2)
                    assert office.gateway.links == []
                await until(lambda: office.gateway.links)

    run(claim())
    assert 1 <= capsys.readouterr().err.count("cannot accept") <= 6


def test_the_last_descriptors_are_not_for_connections(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def claim() -> None:
        async with accepting("established") as office:
            _client, accepted = next_free(2)
            with limited_to(accepted + 1 + descriptors.SPARE):
                await office.dial()
                await until(lambda: office.gateway.links)
            for n in (1, 2):
                _client, accepted = next_free(2)
                with limited_to(accepted + descriptors.SPARE):
                    assert await office.is_closed(await office.dial())
                    assert office.counts.refused == n

    run(claim())
    assert capsys.readouterr().err.count("too many open files") == 1


def test_a_connection_that_came_through_the_tunnel_is_closed_and_counted() -> None:
    async def claim() -> None:
        async with accepting("established") as office:
            office.gateway.routes.to["127.0.0.1"] = DEVICE
            client = await office.dial()
            assert await office.is_closed(client)
            assert office.counts.refused == 1
            assert office.handshaker.asked == []
            office.gateway.routes.to.clear()
            await office.dial()
            await until(lambda: office.gateway.links)

    run(claim())


# -- dialling ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def dialling(
    *outcomes: object, endpoints: tuple[Endpoint, ...] | None = None
) -> AsyncIterator[tuple[asyncio.Task[None], Greets, Established]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        handshaker, gateway = Greets(*outcomes), Established()
        there = Endpoint("tcp", "127.0.0.1", server.getsockname()[1])
        wanted = asyncio.Event()
        wanted.set()
        dialler = Dialler(
            endpoints or (there,), cast("Handshaker", handshaker), cast("Gateway", gateway), wanted
        )
        task = asyncio.create_task(dialler.run())
        try:
            yield task, handshaker, gateway
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for connection in gateway.connections:
                connection.close()


@pytest.mark.parametrize(
    "failure", [HelloError("no hello"), HandshakeError(Refusal.BAD_MAC1), TimeoutError(), OSError()]
)
def test_a_greeting_that_fails_closes_and_dials_again(failure: Exception) -> None:
    async def claim() -> None:
        async with dialling(failure, SimpleNamespace(hello=None)) as (_, handshaker, gateway):
            await until(lambda: gateway.links)
            assert handshaker.asked[0].fileno() == -1
            assert handshaker.asked[1].fileno() >= 0

    run(claim())


def test_a_link_that_ends_is_dialled_again() -> None:
    async def claim() -> None:
        established = SimpleNamespace(hello=None)
        async with dialling(established, established) as (_, _handshaker, gateway):
            await until(lambda: gateway.links)
            await asyncio.sleep(0.1)
            assert len(gateway.links) == 1
            gateway.links[0].ended.set()
            await until(lambda: len(gateway.links) == 2)

    run(claim())


class Agreement:
    """A greeting's result, with keys in it: whoever keeps it keeps those."""

    hello = None


def test_while_the_link_lives_nobody_keeps_what_was_greeted() -> None:
    async def claim() -> None:
        async with dialling(Agreement) as (_, _handshaker, gateway):
            await until(lambda: gateway.links)
            kept = weakref.ref(gateway.links[0].established)
            gateway.links[0].established = None
            await asyncio.sleep(0.05)
            gc.collect()
            assert kept() is None

    run(claim())


def test_a_name_that_never_was_ends_the_gateway_with_one_line() -> None:
    async def claim() -> None:
        nowhere = Endpoint("tcp", "nowhere.invalid", 1)
        async with dialling(endpoints=(nowhere,)) as (task, _, _gateway):
            with pytest.raises(RuntimeFailure, match="cannot be resolved"):
                await asyncio.wait_for(asyncio.shield(task), 15)

    run(claim())


@pytest.mark.parametrize("n_failures", [1, 4])
def test_a_name_that_was_there_once_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, n_failures: int
) -> None:
    async def claim() -> None:
        dialled = 0
        really = tcp.dial

        async def dial(endpoint: Endpoint, fwmark: int, inside: Inside) -> socket.socket:
            nonlocal dialled
            dialled += 1
            if 1 < dialled <= 1 + n_failures:
                raise socket.gaierror(socket.EAI_AGAIN, "no DNS")
            return await really(endpoint, fwmark, inside)

        monkeypatch.setattr(tcp, "dial", dial)
        established = SimpleNamespace(hello=None)
        async with dialling(established, established) as (_, _handshaker, gateway):
            await until(lambda: gateway.links)
            gateway.links[0].ended.set()
            await until(lambda: len(gateway.links) == 2)
            assert dialled == 2 + n_failures

    run(claim())


def test_endpoints_are_dialled_in_turn() -> None:
    async def claim() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            endpoints = tuple(
                Endpoint("tcp", "127.0.0.1", end.getsockname()[1]) for end in (closed, server)
            )
            established = SimpleNamespace(hello=None)
            async with dialling(established, endpoints=endpoints) as (_, _handshaker, gateway):
                await until(lambda: gateway.links)
                assert gateway.links[0].remote == str(endpoints[1])

    run(claim())


@pytest.mark.parametrize(
    ("has_hello", "lived_s", "is_first_again"),
    [(True, 0.0, True), (False, 0.0, False), (False, 0.2, True)],
)
def test_after_a_link_that_the_peer_had_taken_the_first_wait_is_short_again(
    monkeypatch: pytest.MonkeyPatch, has_hello: bool, lived_s: float, is_first_again: bool
) -> None:
    begun = 0

    def delays() -> Iterator[float]:
        nonlocal begun
        begun += 1
        return itertools.repeat(0.005)

    monkeypatch.setattr(tcp, "backoff_delays_s", delays)
    monkeypatch.setattr(finding, "STABLE_SIMPLETUN_LINK_S", 0.1)

    async def claim() -> None:
        established = SimpleNamespace(hello=object() if has_hello else None)
        async with dialling(established, established) as (_, _handshaker, gateway):
            await until(lambda: gateway.links)
            await asyncio.sleep(lived_s)
            gateway.links[0].ended.set()
            await until(lambda: len(gateway.links) == 2)
            assert begun == 1 + is_first_again

    run(claim())


def test_waits_double_up_to_a_longest_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "BACKOFF_FIRST_S", 1.0)
    monkeypatch.setattr(tcp, "BACKOFF_MAX_S", 5.0)
    for longest, delay in zip((1, 2, 4, 5, 5, 5), tcp.backoff_delays_s(), strict=False):
        assert longest / 2 <= delay <= longest
    firsts = {next(tcp.backoff_delays_s()) for _ in range(10)}
    assert len(firsts) > 1
