"""The metrics address changes: the new one answers before the old one is closed."""

from __future__ import annotations

import http.client
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.host.dns.resolved import NotYetError
from fastun.metrics import server as metric_server
from fastun.metrics.server import MetricsServer
from tests.support.idle_gateway import idle_gateway, viewing

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(where: tuple[str, int] | None) -> Iterator[MetricsServer]:
    with idle_gateway() as gateway, viewing(gateway) as viewer:
        server = MetricsServer(viewer.view, viewer.health)
        if where is not None:
            server.begin(where)
        try:
            yield server
        finally:
            server.change(None)


def answers(where: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*where, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status in (200, 503)
    except ConnectionError:
        return False
    finally:
        connection.close()


def test_another_port_and_off_and_on_again() -> None:
    first, second = ("127.0.0.1", free_port()), ("127.0.0.2", free_port())
    with serving(first) as server:
        assert answers(first)
        server.change(second)
        assert (answers(first), answers(second)) == (False, True)
        server.change(None)
        assert not answers(second)
        server.change(first)
        assert answers(first)


def test_all_addresses_instead_of_one_on_the_same_port() -> None:
    port = free_port()
    with serving(("127.0.0.1", port)) as server:
        server.change(("0.0.0.0", port))  # noqa: S104 (that is the case)
        assert answers(("127.0.0.2", port))
        server.change(("127.0.0.1", port))
        assert answers(("127.0.0.1", port))
        assert not answers(("127.0.0.2", port))


def test_an_address_that_cannot_be_had_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("127.0.0.1", free_port())
    with serving(where) as server, socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(RuntimeFailure, match="the port is in use"):
            server.change(("127.0.0.1", other.getsockname()[1]))
        assert answers(where)
        monkeypatch.setattr(metric_server, "_bind", lambda *_, **__: later())
        with pytest.raises(RuntimeFailure, match="no DNS yet"):
            server.change(("host.example", 1))
        assert answers(where)


def later() -> None:
    raise NotYetError("no DNS yet")


def test_what_waits_for_dns_gives_way_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    where, bind = ("127.0.0.1", free_port()), metric_server._bind  # noqa: SLF001 (to be had again)
    monkeypatch.setattr(metric_server, "RETRY_S", 0.01)
    monkeypatch.setattr(metric_server, "_bind", lambda *_, **__: later())
    with serving(("host.example", 1)) as server:
        monkeypatch.setattr(metric_server, "_bind", bind)
        server.change(where)
        assert answers(where)
