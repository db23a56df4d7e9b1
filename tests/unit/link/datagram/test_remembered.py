"""Where clients were: kept over a restart, checked like anything that others may have written."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import stat
import time
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import codec, log
from fastun.endpoint import Endpoint
from fastun.link.datagram import remembered
from fastun.link.datagram.remembered import CALLS_PER_TURN, RememberedEndpoints
from fastun.native import UdpAddress
from fastun.peers.peer import Peer
from fastun.session import messages
from tests.support.datagram_pair import Pair, Side, run
from tests.support.parties import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.usefixtures("now")

ANT = Peer(name="ant", public_key=CLIENT.public)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remembered, "TURN_S", 0.01)
    monkeypatch.setattr(remembered, "_LOOK_INTERVAL_S", 0.01)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


class Ports:
    """The sockets of a side: two of IPv4, of which the second has the port that clients know."""

    def __init__(self, sockets: Any) -> None:
        self._sockets = sockets

    def port_of(self, index: int) -> int:
        return (1000, 51820)[index]

    def of_port(self, port: int) -> int | None:
        return {1000: 0, 51820: 1}.get(port)

    def address_of(self, host: Any, port: int, zone: int, by: int | None) -> UdpAddress:
        return UdpAddress(host, port, by or 0, zone)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sockets, name)


def memory_of(side: Side, state: Path) -> RememberedEndpoints:
    sessions = side.sessions
    end = SimpleNamespace(
        settings=SimpleNamespace(state_dir=state),
        exchange=side.exchange,
        links=side.links,
        files=None,
    )
    sockets: Any = Ports(side.sockets)
    return RememberedEndpoints(end, sessions._peers, sockets, sessions._handshakes)  # type: ignore[arg-type]  # noqa: SLF001


@contextlib.asynccontextmanager
async def running(side: Side, state: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(memory_of(side, state).run())
    try:
        await asyncio.sleep(0.05)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def server(*peers: Peer) -> Side:
    return Side("serve", SERVER, "192.0.2.2", *(peers or (ANT,)))


def kept(state: Path) -> Path:
    (file,) = state.glob("endpoints-*")
    return file


async def remember(state: Path) -> None:
    """Let a server be linked with its client, and end."""
    pair = Pair()
    await pair.begin()
    pair.server.sessions._peers.by_slot[0].address = UdpAddress(  # noqa: SLF001
        pair.client.address.host, 4242, socket_index=1, local=pair.server.address.host
    )
    async with running(pair.server, state):
        pass


def place(**changes: object) -> dict[str, object]:
    today = int(time.time() // 86400)
    return {"key": CLIENT.public, "host": "192.0.2.1", "port": 4242, "day": today, **changes}


def write(state: Path, *places: dict[str, object]) -> None:
    run(remember(state))
    kept(state).write_bytes(codec.pack(list(places)))


def test_a_restarted_server_calls_its_client_from_the_socket_that_it_knows(
    tmp_path: Path,
) -> None:
    async def claim() -> None:
        await remember(tmp_path)
        assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o600
        again = server()
        async with running(again, tmp_path):
            ((message, to),) = again.sockets.sent
            assert messages.type_of(message) is messages.MessageType.INITIATION
            assert (str(to.host), to.port, to.socket_index) == ("192.0.2.1", 4242, 1)
            assert str(to.local) == "192.0.2.2"

    run(claim())


def test_packets_for_a_peer_that_was_just_called_do_not_call_it_at_once_again(
    tmp_path: Path, now: SimpleNamespace
) -> None:
    async def claim() -> None:
        await remember(tmp_path)
        again = server()
        async with running(again, tmp_path):
            for after_s, n_sent in ((0.1, 1), (6, 2)):
                now.s += after_s
                again.sessions.begin(0)
                again.sessions.tick()
                await asyncio.sleep(0.03)
                assert len(again.sockets.sent) == n_sent

    run(claim())


def test_one_that_does_not_answer_is_called_once_and_remembered(tmp_path: Path) -> None:
    async def claim() -> None:
        await remember(tmp_path)
        before = kept(tmp_path).read_bytes()
        for _ in range(2):
            again = server()
            async with running(again, tmp_path):
                again.sessions.tick()
                assert len(again.sockets.sent) == 1
            assert kept(tmp_path).read_bytes() == before

    run(claim())


@pytest.mark.parametrize("who", ["on-tcp", "elsewhere", "unknown", "connected"])
def test_who_need_not_be_called_is_not(tmp_path: Path, who: str) -> None:
    async def claim() -> None:
        await remember(tmp_path)
        endpoints = (Endpoint("udp", "192.0.2.9", 1),) if who == "elsewhere" else ()
        again = server(dataclasses.replace(ANT, endpoints=endpoints))
        if who == "unknown":
            again.have()
        if who in ("on-tcp", "connected"):
            transport = "tcp" if who == "on-tcp" else "udp"
            again.links.by_slot[0] = SimpleNamespace(transport=transport, slot=0)  # type: ignore[assignment]
        async with running(again, tmp_path):
            assert again.sockets.sent == []

    run(claim())


def test_a_peer_that_is_on_tcp_now_is_forgotten(tmp_path: Path) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        async with running(pair.server, tmp_path):
            assert len(codec.unpack(kept(tmp_path).read_bytes(), list[Any], 1000)) == 1
            pair.server.links.by_slot[0] = SimpleNamespace(transport="tcp")  # type: ignore[assignment]
        assert codec.unpack(kept(tmp_path).read_bytes(), list[Any], 1000) == []

    run(claim())


def test_only_so_many_are_called_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_peers = CALLS_PER_TURN + 5
    keys = [bytes([n, 7]) + bytes(30) for n in range(n_peers)]
    write(tmp_path, *(place(key=key) for key in keys))
    monkeypatch.setattr(remembered, "TURN_S", 60)

    async def claim() -> None:
        peers = (Peer(name=f"p{n}", public_key=key) for n, key in enumerate(keys))
        again = server(*peers)
        async with running(again, tmp_path):
            await asyncio.sleep(0.3)
            assert len(again.sockets.sent) == CALLS_PER_TURN

    run(claim())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"[]",
        codec.pack({"key": 1}),
        codec.pack([place(port=0)]),
        codec.pack([place(port=65536)]),
        codec.pack([place(port="1")]),
        codec.pack([place(key=b"short")]),
        codec.pack([place(host="1" * 100)]),
        codec.pack([place(more=1)]),
        codec.pack([place()]) + b"\0",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        bytes(10**6),
    ],
    ids=range(14),
)
def test_a_damaged_file_is_reported_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    write(tmp_path)
    kept(tmp_path).write_bytes(content)

    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        async with running(pair.server, tmp_path):
            assert pair.server.sockets.sent == []

    run(claim())
    assert capsys.readouterr().err.count("the file of the clients' addresses is damaged") == 1
    assert len(codec.unpack(kept(tmp_path).read_bytes(), list[Any], 1000)) == 1


@pytest.mark.parametrize("what", ["port", "via"])
def test_a_client_without_a_port_to_be_called_at_spoils_no_ones_place(
    tmp_path: Path, what: str
) -> None:
    async def claim() -> None:
        pair = Pair()
        await pair.begin()
        udp_peer = pair.server.sessions._peers.by_slot[0]  # noqa: SLF001
        memory = memory_of(pair.server, tmp_path)
        assert len(memory._places()) == 1  # noqa: SLF001
        if what == "port":
            udp_peer.address = UdpAddress(pair.client.address.host, 0, socket_index=1)
        else:  # its socket is closed
            memory._sockets.port_of = lambda _: 0  # type: ignore[method-assign]  # noqa: SLF001
        assert memory._places() == []  # noqa: SLF001

    run(claim())


@pytest.mark.parametrize(
    "host",
    ["224.0.0.1", "0.0.0.0", "ff02::1", "::", "no address", "192.0.2.0/24", ""],  # noqa: S104
)
def test_what_is_not_a_hosts_address_is_not_called(tmp_path: Path, host: str) -> None:
    write(tmp_path, place(host=host), place(interface="absent0"))

    async def claim() -> None:
        again = server()
        async with running(again, tmp_path):
            assert again.sockets.sent == []

    run(claim())


@pytest.mark.parametrize("kind", ["pipe", "directory", "link-to-nothing"])
def test_something_else_in_its_place_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    write(tmp_path)
    path = kept(tmp_path)
    path.unlink()
    if kind == "link-to-nothing":
        path.symlink_to("nowhere")
    else:
        {"pipe": os.mkfifo, "directory": os.mkdir}[kind](path)

    async def claim() -> None:
        again = server()
        async with running(again, tmp_path):
            assert again.sockets.sent == []

    run(claim())


@pytest.mark.parametrize(("age_days", "is_called"), [(29, True), (31, False), (20_000, False)])
def test_a_client_that_has_not_been_here_for_a_month_is_forgotten(
    tmp_path: Path, age_days: int, *, is_called: bool
) -> None:
    day = int(time.time() // 86400) - age_days
    write(tmp_path, place(day=day))

    async def claim() -> None:
        again = server()
        for _ in range(2):  # its day does not change by a restart
            async with running(again, tmp_path):
                assert len(again.sockets.sent) == is_called
            packed = kept(tmp_path).read_bytes()
            days = [each["day"] for each in codec.unpack(packed, list[Any], len(packed))]
            assert days == [day] * is_called
            again = server()

    run(claim())


@pytest.mark.parametrize("is_recorded", [True, False])
def test_an_initiation_from_elsewhere_moves_no_remembered_client_before_it_proves_to_be_there(
    tmp_path: Path, is_recorded: bool
) -> None:
    """One that was recorded is answered where it comes from, and leads no one else there."""
    elsewhere = UdpAddress(ip_address("198.51.100.9"), 666)

    async def claim() -> None:
        await remember(tmp_path)
        pair = Pair()
        again = pair.server
        initiation = await pair.client.begin()
        memory = memory_of(again, tmp_path)
        memory._restore(memory._read())  # noqa: SLF001
        udp_peer = again.sessions._peers.by_slot[0]  # noqa: SLF001
        await again.answer(initiation, elsewhere)
        ((response, to),) = again.sockets.sent
        assert (to.host, to.port) == (elsewhere.host, elsewhere.port)
        assert str(udp_peer.address.host) == "192.0.2.1"
        again.sockets.sent.clear()
        if is_recorded:
            await memory._call()  # noqa: SLF001
            ((_, to),) = again.sockets.sent
            assert str(to.host) == "192.0.2.1"
        else:
            await pair.client.answer(response, again.address)
            again.endpoint = elsewhere  # as the link-reader says when something has opened
            again.take_in(pair.client.sent(), elsewhere)
            assert udp_peer.address == elsewhere
            assert again.links.by_slot[0].remote == str(elsewhere)

    run(claim())
