"""What acceptor and dialler work with, as fakes: a scripted handshaker, and an owner of streams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastun.endpoint import Endpoint
from fastun.link.ended import Ended
from fastun.link.peer_slots import SlottedPeer
from fastun.link.stream.dialler import Dialler
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.inside_of import Routes
from tests.support.known_names import KnownNames, outside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fastun.link.stream.handshake import Handshaker


class ScriptedHandshaker:
    """Gives each connection the next of its outcomes; without one left, it waits."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[socket.socket] = []
        self.opening_bytes = 0
        self.openings: list[bytes] = []
        self.dialled = SlottedPeer(0, Peer(name="ant", public_key=bytes(32)))

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


class FakeOwner:
    """Takes every link, or has no room until `old` has ended."""

    def __init__(self, old: asyncio.Event | None = None) -> None:
        self.old = old
        self.routes = Routes()
        self.inside = self.routes.inside()
        self.links: list[Any] = []
        self.connections: list[socket.socket] = []

    def has_room(self) -> bool:
        return self.old is None or self.old.is_set()

    def room_made(self) -> Ended | None:
        return None if self.has_room() else self.old

    def establish(self, established: object, connection: socket.socket, remote: str) -> Any:
        link = SimpleNamespace(
            established=established,
            remote=remote,
            connection=connection,
            ended=asyncio.Event(),
            end_reason="ended",
        )
        self.links.append(link)
        self.connections.append(connection)
        return link


@contextlib.asynccontextmanager
async def dialling(
    *outcomes: object,
    endpoints: tuple[Endpoint, ...] | None = None,
    dns: KnownNames | None = None,
    name: str = "127.0.0.1",
) -> AsyncIterator[tuple[asyncio.Task[None], ScriptedHandshaker, FakeOwner]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        handshaker, owner = ScriptedHandshaker(*outcomes), FakeOwner()
        there = Endpoint("tcp", name, server.getsockname()[1])
        wanted = asyncio.Event()
        wanted.set()
        scripted = cast("Handshaker", handshaker)
        dialler = Dialler(
            lambda: endpoints or (there,), scripted, owner, outside(owner.inside, dns), wanted
        )
        task = asyncio.create_task(dialler.run())
        try:
            yield task, handshaker, owner
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for connection in owner.connections:
                connection.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what is waited for is a list that grows)
            await asyncio.sleep(0.005)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))
