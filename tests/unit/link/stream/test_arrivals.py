"""Arrivals: how long one may be silent, and which is closed to make room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link.hello import HelloError
from fastun.link.stream import arrivals
from fastun.link.stream.arrivals import Arrival, Arrivals

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from fastun.link.stream.handshake import Handshaker

MESSAGE = b"0123456789"


class FirstMessages:
    opening_bytes = len(MESSAGE)

    def check_opening(self, opening: bytes) -> None:
        if not MESSAGE.startswith(opening):
            raise HelloError("no such thing")


class Porch:
    """Arrivals with what came of them."""

    def __init__(self) -> None:
        self.opened: list[Arrival] = []
        self.failed: list[str] = []
        self.n_refused = 0
        self.arrivals = Arrivals(
            cast("Handshaker", FirstMessages()), self.opened.append, self._refuse, self._fail
        )
        self._stack = contextlib.ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def _refuse(self) -> None:
        self.n_refused += 1

    def _fail(self, arrival: Arrival, why: str) -> None:
        assert arrival.connection.fileno() >= 0  # counted before the peer sees it closed
        self.failed.append(why)

    def arrive(self, source: bytes = b"a") -> socket.socket:
        """Return the client's end."""
        client = socket.create_connection(self._listener.getsockname())
        self._stack.callback(client.close)
        connection, _ = self._listener.accept()
        self._stack.callback(connection.close)
        self.arrivals.add(connection, source)
        client.setblocking(False)
        return client

    def close(self) -> None:
        self.arrivals.close()
        self._stack.close()


@contextlib.contextmanager
def porch() -> Iterator[Porch]:
    one = Porch()
    try:
        yield one
    finally:
        one.close()


def is_open(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


@pytest.mark.parametrize("pieces", [[10], [1, 9], [6, 4], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
def test_a_first_message_may_come_in_pieces_and_what_follows_stays(pieces: list[int]) -> None:
    async def claim() -> None:
        with porch() as here:
            client, rest = here.arrive(), MESSAGE
            for n in pieces:
                client.send(rest[:n] + (b"more" if n == len(rest) else b""))
                rest = rest[n:]
                await asyncio.sleep(0.02)
            (arrival,) = here.opened
            assert arrival.opening == MESSAGE
            connection = arrival.connection
            assert connection.recv(100) == b"more"
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            arrival.connection.close()

    run(claim())


def test_a_sender_of_single_bytes_wakes_us_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    n_looks = 0

    def check(_: FirstMessages, opening: bytes) -> None:
        nonlocal n_looks
        n_looks += 1
        assert MESSAGE.startswith(opening)

    monkeypatch.setattr(FirstMessages, "check_opening", check)

    async def claim() -> None:
        with porch() as here:
            client = here.arrive()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in MESSAGE:
                client.send(bytes([byte]))
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert len(here.opened) == 1
            assert n_looks == 3
            here.opened[0].connection.close()

    run(claim())


@pytest.mark.parametrize("sent", [b"x", b"0x", b"012345678x"])
def test_what_cannot_be_a_first_message_is_closed_at_once(sent: bytes) -> None:
    async def claim() -> None:
        with porch() as here:
            client = here.arrive()
            client.send(sent)
            await asyncio.sleep(0.05)
            assert not is_open(client)
            assert here.failed == ["no such thing"]

    run(claim())


def test_a_client_that_hangs_up_is_closed_at_once() -> None:
    async def claim() -> None:
        with porch() as here:
            client = here.arrive()
            client.send(MESSAGE[:3])
            client.close()
            await asyncio.sleep(0.05)
            (why,) = here.failed
            assert "closed the connection" in why

    run(claim())


@pytest.mark.parametrize(
    ("sent", "n_others", "is_late"), [(b"", 0, False), (b"", 2, True), (b"01", 0, True)]
)
def test_time_is_short_for_the_rest_of_a_message_and_when_half_of_the_places_are_taken(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, n_others: int, is_late: bool
) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_MAX", 4)
    monkeypatch.setattr(arrivals, "PRESSED_TIMEOUT_S", 0.1)
    monkeypatch.setattr(arrivals, "REST_TIMEOUT_S", 0.1)

    async def claim() -> None:
        with porch() as here:
            others = [here.arrive() for _ in range(n_others)]
            client = here.arrive()
            client.send(sent)
            wanted = ["too slow"] * (len(others) + 1 if is_late else 0)
            await asyncio.sleep(0.4)
            for _ in range(6000):
                if len(here.failed) < len(wanted):
                    await asyncio.sleep(0.01)
            assert here.failed == wanted
            assert is_open(client) != is_late

    run(claim())


def test_a_connection_silent_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "HELLO_TIMEOUT_S", 0.25)

    async def claim() -> None:
        with porch() as here:
            came_s = time.monotonic()
            client = here.arrive()
            while not here.failed:  # noqa: ASYNC110 (a list that grows)
                await asyncio.sleep(0.01)
            assert time.monotonic() - came_s > 0.2
            assert not is_open(client)
            assert here.failed == ["too slow"]

    run(claim())


def test_of_sources_that_have_as_many_any_may_lose_its_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_MAX", 8)

    async def claim() -> None:
        gone = set()
        for _ in range(40):
            with porch() as here:
                clients = [here.arrive(bytes([n])) for n in range(8)]
                here.arrive(b"new")
                assert here.n_refused == 1
                gone.update(n for n, client in enumerate(clients) if not is_open(client))
        assert len(gone) > 2, "always the same one"

    run(claim())


def test_one_that_has_gone_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "ARRIVALS_MAX", 2)

    async def claim() -> None:
        with porch() as here:
            for _ in range(5):
                client = here.arrive()
                client.send(MESSAGE)
                await asyncio.sleep(0.02)
            assert here.n_refused == 0
            for arrival in here.opened:
                arrival.connection.close()
            assert len(here.opened) == 5

    run(claim())
