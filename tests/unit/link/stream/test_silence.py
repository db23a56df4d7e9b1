"""A dialled stream that falls silent is left for another one, and only for that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fastun.link.stream import dialler as dialler_module
from fastun.link.stream import silence
from tests.support.stream_owner import dialling, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The connections that are silent."""
    silent: list[socket.socket] = []
    monkeypatch.setattr(silence, "is_silent", lambda each, **_: each in silent)
    monkeypatch.setattr(dialler_module, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(dialler_module, "OTHER_WAYS_PAUSE_S", 0.01)
    yield silent
    silent.clear()


def outcome() -> SimpleNamespace:
    return SimpleNamespace(hello=object())


def test_a_silent_link_is_replaced_by_the_next(silent: list[Any]) -> None:
    async def claim() -> None:
        async with dialling(outcome(), outcome(), outcome()) as (_, _, owner):
            await until(lambda: len(owner.links) == 1)
            await asyncio.sleep(0.1)
            assert len(owner.links) == 1
            silent.append(owner.connections[0])
            await until(lambda: len(owner.links) == 2)
            await asyncio.sleep(0.1)
            assert len(owner.links) == 2, "the new one is not silent"
            owner.links[1].ended.set()
            await until(lambda: len(owner.links) == 3)

    run(claim())


def test_a_silent_link_stays_while_nothing_else_is_there(
    silent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_dialled = 0

    async def refuse(*_: object) -> None:
        nonlocal n_dialled
        n_dialled += 1
        raise OSError(111, "refused")

    async def claim() -> None:
        async with dialling(outcome(), outcome()) as (_, _, owner):
            await until(lambda: len(owner.links) == 1)
            monkeypatch.setattr(dialler_module.racing, "first_connected", refuse)
            silent.append(owner.connections[0])
            await until(lambda: n_dialled > 1)
            assert not owner.links[0].ended.is_set()
            assert owner.connections[0].fileno() >= 0

    run(claim())


def test_a_link_that_was_only_slow_stays_and_the_other_connection_is_closed(
    silent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    really = dialler_module.racing.first_connected

    async def connect(*arguments: Any) -> Any:
        found = await really(*arguments)
        if silent:
            made.append(found[1])
            silent.clear()
        return found

    async def claim() -> None:
        async with dialling(outcome(), outcome()) as (_, handshaker, owner):
            await until(lambda: len(owner.links) == 1)
            monkeypatch.setattr(dialler_module.racing, "first_connected", connect)
            silent.append(owner.connections[0])
            await until(lambda: made and made[0].fileno() < 0)
            assert len(owner.links) == len(handshaker.asked) == 1

    run(claim())


def test_on_an_unsealed_wire_no_link_replaces_another(silent: list[Any]) -> None:
    async def claim() -> None:
        async with dialling(outcome(), outcome()) as (_, handshaker, owner):
            await until(lambda: len(owner.links) == 1)
            owner.old = owner.links[0].ended  # is in the way
            silent.append(owner.connections[0])
            await asyncio.sleep(0.1)
            assert len(handshaker.asked) == 1

    run(claim())


def test_a_stream_whose_other_end_acknowledges_is_not_silent() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(socket.create_connection(server.getsockname()))
        theirs = stack.enter_context(server.accept()[0])
        assert not silence.is_silent(ours)
        ours.sendall(b"data")
        assert theirs.recv(4) == b"data"
        assert not silence.is_silent(ours)
    assert not silence.is_silent(ours), "it is closed"
