"""Sources that the kernel turns away: which ones, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.host.sockets.syn_filter import attach, detach
from fastun.link.source_limits import source_of
from fastun.link.stream import listener_filter
from fastun.link.stream.listener_filter import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """One for IPv4 and IPv6."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.settimeout(1)
        yield listening


def is_heard(listener: socket.socket, source: str) -> bool:
    """Whether a connection from ``source`` is made; a SYN that is dropped gets no answer."""
    target = "::1" if ":" in source else "127.0.0.1"
    with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as client:
        client.settimeout(0.2)
        client.bind((source, 0))
        try:
            client.connect((target, listener.getsockname()[1]))
        except TimeoutError:
            return False
        listener.accept()[0].close()
        return True


@pytest.mark.parametrize(
    ("sources", "turned_away", "heard"),
    [
        (["127.0.0.2"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.3", "::1"]),
        (["::1"], ["::1"], ["127.0.0.1"]),
        (["127.0.0.2", "::1", "127.0.0.9"], ["127.0.0.2", "127.0.0.9", "::1"], ["127.0.0.1"]),
        (["2001:db8::", "127.0.0.5", "2001:db8:1::"], ["127.0.0.5"], ["::1", "127.0.0.4"]),
        ([f"127.1.{n}.1" for n in range(128)], ["127.1.127.1"], ["127.0.0.1", "::1"]),
        ([f"2001:db8:{n:x}::" for n in range(128)], [], ["127.0.0.1", "::1"]),
        ([*(f"2001:db8:{n:x}::" for n in range(127)), "::1"], ["::1"], ["127.0.0.1"]),
    ],
)
def test_those_and_no_others_are_turned_away(
    listener: socket.socket, sources: Sequence[str], turned_away: list[str], heard: list[str]
) -> None:
    attach(listener, [source_of(source) for source in sources])
    assert [source for source in turned_away if is_heard(listener, source)] == []
    assert [source for source in heard if not is_heard(listener, source)] == []
    attach(listener, [])
    assert all(is_heard(listener, source) for source in turned_away)


def test_an_accepted_connection_can_be_freed_of_the_filter(listener: socket.socket) -> None:
    attach(listener, [source_of("127.0.0.2")])
    with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        connection, _ = listener.accept()
        with connection:
            detach(connection)
            with pytest.raises(FileNotFoundError):
                connection.setsockopt(socket.SOL_SOCKET, 27, 0)
            detach(connection)


def test_a_source_is_turned_away_when_it_is_refused_too_often_and_only_for_a_moment(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_filter, "TURNED_AWAY_S", 0.5)

    dropped: list[int] = []

    async def claim() -> None:
        loop = asyncio.get_running_loop()
        turned_away = TurnedAway([listener], dropped.append)

        def refuse(source: str, times: int) -> None:
            for _ in range(times):
                turned_away.refuse(source_of(source), loop.time())
            turned_away.apply()

        refuse("127.0.0.2", 150)
        refuse("127.0.0.3", 300)
        assert is_heard(listener, "127.0.0.2")
        assert not is_heard(listener, "127.0.0.3")
        await asyncio.sleep(0.6)
        assert is_heard(listener, "127.0.0.3")
        assert dropped == [0, 1]
        turned_away.close()

    asyncio.run(claim())


def test_each_is_turned_away_for_its_own_time(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_filter, "TURNED_AWAY_S", 1.0)

    async def claim() -> None:
        loop = asyncio.get_running_loop()
        turned_away = TurnedAway([listener], lambda _: None)
        for source in ("127.0.0.2", "127.0.0.3"):
            for _ in range(300):
                turned_away.refuse(source_of(source), loop.time())
            turned_away.apply()
            await asyncio.sleep(0.6)
        assert is_heard(listener, "127.0.0.2")
        assert not is_heard(listener, "127.0.0.3")
        await asyncio.sleep(0.5)
        assert is_heard(listener, "127.0.0.3")
        turned_away.close()

    asyncio.run(claim())


def test_so_many_at_most_are_turned_away(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_filter, "TURNED_AWAY_MAX", 2)

    dropped: list[int] = []

    async def claim() -> None:
        loop = asyncio.get_running_loop()
        turned_away = TurnedAway([listener], dropped.append)
        sources = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        for source in sources:
            for _ in range(300):
                turned_away.refuse(source_of(source), loop.time())
        turned_away.apply()
        assert [source for source in sources if is_heard(listener, source)] == ["127.0.0.2"]
        with contextlib.closing(turned_away):
            pass

    asyncio.run(claim())
