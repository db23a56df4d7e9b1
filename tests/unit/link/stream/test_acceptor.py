"""Accepting streams: which connections wait, which are closed first, and which become links."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from fastun import descriptors, log
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OwnSockets
from fastun.link.hello import HelloError
from fastun.link.source_limits import SourceLimits
from fastun.link.stream import acceptor as acceptor_module
from fastun.link.stream import arrivals, sockets
from fastun.link.stream.acceptor import Acceptor, ConnectionCounts
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.descriptors import limited_to, next_free, no_descriptor_left
from tests.support.inside_of import DEVICE
from tests.support.stream_owner import FakeOwner, ScriptedHandshaker, run, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastun.link.stream.handshake import Handshaker


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(acceptor_module, "OLD_LINK_GRACE_S", 0.2)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


class Accepting:
    def __init__(self, handshaker: ScriptedHandshaker, owner: FakeOwner, fwmark: int) -> None:
        self.handshaker, self.owner, self.counts = handshaker, owner, ConnectionCounts()
        everywhere = EndpointAddress(ip_address("0.0.0.0"), 0, 0)  # noqa: S104 (127.0.0.2, too)
        self.listener = sockets.listen(everywhere, OwnSockets(fwmark))
        self.port = self.listener.getsockname()[1]
        self.clients: list[socket.socket] = []

    def acceptor(self) -> Acceptor:
        listeners: asyncio.Queue[socket.socket] = asyncio.Queue()
        listeners.put_nowait(self.listener)
        handshaker = cast("Handshaker", self.handshaker)
        return Acceptor(listeners, handshaker, self.owner, self.owner.inside, self.counts)

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
    office = Accepting(ScriptedHandshaker(*outcomes), FakeOwner(old), fwmark)
    task = asyncio.create_task(office.acceptor().run())
    await asyncio.sleep(0.02)
    try:
        yield office
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for connection in (office.listener, *office.clients, *office.owner.connections):
            connection.close()


def test_a_connection_whose_handshake_succeeds_becomes_a_link_and_stays_open() -> None:
    async def claim() -> None:
        async with accepting("established") as office:
            client = await office.dial()
            await until(lambda: office.owner.links)
            (link,) = office.owner.links
            assert link.established == "established"
            assert link.remote == f"127.0.0.1:{client.getsockname()[1]}"
            assert office.owner.connections[0].fileno() >= 0
            assert office.counts == ConnectionCounts()

    run(claim())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN, to mark packets")
def test_an_accepted_connection_has_the_mark_by_which_its_route_is_asked() -> None:
    async def claim() -> None:
        async with accepting("established", fwmark=7) as office:
            await office.dial()
            await until(lambda: office.owner.links)
            (connection,) = office.owner.connections
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 7

    run(claim())


@pytest.mark.parametrize(
    "failure", [HelloError("no hello"), HandshakeError(Refusal.BAD_MAC1), TimeoutError(), OSError()]
)
def test_a_connection_whose_handshake_fails_is_closed_and_counted(failure: Exception) -> None:
    async def claim() -> None:
        async with accepting(failure) as office:
            client = await office.dial()
            assert await office.is_closed(client)
            assert office.owner.links == []
            assert office.counts == ConnectionCounts(failed_hellos=1)

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


def test_a_handshake_that_has_ended_makes_room_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_PER_SOURCE_MAX", 2)

    async def claim() -> None:
        async with accepting(*[HelloError("no hello")] * 10) as office:
            for _ in range(10):
                assert await office.is_closed(await office.dial())
            assert office.counts == ConnectionCounts(refused=0, failed_hellos=10)

    run(claim())


def test_while_another_client_is_connected_a_new_one_is_refused_unread() -> None:
    async def claim() -> None:
        async with accepting(old=asyncio.Event()) as office:
            assert await office.is_closed(await office.dial())
            assert office.handshaker.asked == []
            assert office.counts == ConnectionCounts(refused=1)

    run(claim())


def test_a_client_that_comes_before_the_old_link_has_ended_is_given_a_moment() -> None:
    async def claim() -> None:
        old = asyncio.Event()
        async with accepting("established", old=old) as office:
            await office.dial()
            await asyncio.sleep(0.05)
            assert office.handshaker.asked == []
            old.set()
            await until(lambda: office.owner.links)
            assert office.counts.refused == 0

    run(claim())


def test_users_of_this_host_have_the_limit_of_one_by_all_their_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SourceLimits(per_second=1, burst=20)  # full again in 20 s
    monkeypatch.setattr(acceptor_module, "SourceLimits", lambda: slow)

    async def claim() -> None:
        async with accepting(*[HelloError("no hello")] * 50) as office:
            for n in range(40):
                assert await office.is_closed(await office.dial(f"127.0.{n}.2"))
            assert 20 <= len(office.handshaker.asked) < 40

    run(claim())


def test_a_source_above_its_limit_is_closed_unread_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = SourceLimits(per_second=1, burst=20)  # full again in 20 s
    monkeypatch.setattr(acceptor_module, "SourceLimits", lambda: slow)
    monkeypatch.setattr(acceptor_module, "host_of", lambda source: source)  # other hosts' are here

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
            await until(lambda: office.owner.links)
            assert office.handshaker.openings == [b"open"]
            assert office.owner.connections[0].recv(100) == b" and more"
            with pytest.raises(BlockingIOError):
                silent.recv(1)

    run(claim())


def test_a_handshake_under_way_is_not_closed_for_silent_connections(
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


def test_a_handshake_under_way_when_the_gateway_stops_is_closed() -> None:
    async def claim() -> None:
        async with accepting() as office:
            client = await office.dial()
            await until(lambda: office.handshaker.asked)
        # The context has closed the client's end as well; the accepted one was the acceptor's.
        assert office.handshaker.asked[0].fileno() == -1
        assert client.fileno() == -1

    run(claim())


def test_a_client_that_comes_when_no_descriptor_is_left_is_accepted_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acceptor_module, "ACCEPT_RETRY_S", 0.05)

    async def claim() -> None:
        async with accepting("established") as office:
            with socket.socket() as client:
                with no_descriptor_left():
                    client.connect(("127.0.0.1", office.port))
                    await asyncio.sleep(0.2)
                    assert office.owner.links == []
                await until(lambda: office.owner.links)

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
                await until(lambda: office.owner.links)
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
            office.owner.routes.to["127.0.0.1"] = DEVICE
            client = await office.dial()
            assert await office.is_closed(client)
            assert office.counts.refused == 1
            assert office.handshaker.asked == []
            office.owner.routes.to.clear()
            await office.dial()
            await until(lambda: office.owner.links)

    run(claim())
