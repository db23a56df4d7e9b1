"""Dialled streams whose route comes to leave by another interface than the one they came by."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link.stream_path import StreamPaths
from tests.support.inside_of import OTHER, Routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.routing.route_lookup import RouteLookup

UPLINK, SECOND = OTHER, 4
HERE = "127.0.0.1"


@pytest.fixture
def stream() -> Iterator[Any]:
    """A link on a real connection, from and to 127.0.0.1."""
    with (
        socket.create_server((HERE, 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        yield SimpleNamespace(id=7, connection=connection)


@pytest.fixture
def routes() -> Routes:
    found = Routes()
    found.homes[HERE] = UPLINK
    return found


def paths(routes: Routes) -> StreamPaths:
    return StreamPaths(cast("RouteLookup", routes))


def test_a_route_that_changes_to_another_interface_loses_the_stream(
    stream: Any, routes: Routes
) -> None:
    watched = paths(routes)
    assert not watched.is_lost(stream)
    routes.to[HERE] = SECOND
    assert watched.is_lost(stream)


def test_an_address_that_goes_loses_it_where_there_is_another_way(
    stream: Any, routes: Routes
) -> None:
    watched = paths(routes)
    assert not watched.is_lost(stream)
    routes.homes.clear()
    assert watched.is_lost(stream)
    routes.to[HERE] = 0  # no way at all: it may come back
    assert not watched.is_lost(stream)


def test_an_address_that_was_never_the_interfaces_own_is_left_alone(
    stream: Any, routes: Routes
) -> None:
    watched = paths(routes)
    routes.homes[HERE] = 1
    assert not watched.is_lost(stream)
    stream.id = 8
    assert not watched.is_lost(stream)


def test_a_new_stream_is_judged_by_itself(stream: Any, routes: Routes) -> None:
    watched = paths(routes)
    assert not watched.is_lost(stream)
    routes.to[HERE] = SECOND
    stream.id = 8
    assert not watched.is_lost(stream)


def test_what_is_ending_or_cannot_be_looked_up_is_left_alone(stream: Any, routes: Routes) -> None:
    assert not StreamPaths(None).is_lost(stream)
    watched = paths(routes)
    assert not watched.is_lost(stream)
    routes.to[HERE] = SECOND
    stream.connection.close()
    assert not watched.is_lost(stream)
    assert not watched.is_lost(SimpleNamespace(id=7, connection=None))  # type: ignore[arg-type]
