"""Clients on TCP in a network that is routed to the device: routes make way for them."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from fastun.host.netlink import half_open as kernel
from fastun.link.stream import half_open

if TYPE_CHECKING:
    from collections.abc import Collection

INSIDE = [ip_address(f"172.20.0.{n}") for n in range(1, 4)]
OUTSIDE = ip_address("198.51.100.1")


class Inside:
    """172.20.0.0/24 leads inside until routes make way."""

    def __init__(self) -> None:
        self.kept_out: list[object] = []

    def holds_stream(self, sockaddr: tuple[str, int]) -> bool:
        return sockaddr[0].startswith("172.20.0.") and not self.kept_out

    def keep_out(self, host: object) -> bool:
        self.kept_out.append(host)
        return True


def look(monkeypatch: pytest.MonkeyPatch, seconds: float, *, has_routes: bool) -> tuple[Any, int]:
    """Look for a while; return what made way, and how often the kernel was asked."""
    monkeypatch.setattr(half_open, "LOOK_INTERVAL_S", 0.001)
    n_asked = 0

    def sources(ports: Collection[int]) -> set[kernel.Source]:
        nonlocal n_asked
        n_asked += 1
        assert ports == {443}
        return {(host, 5000) for host in (*INSIDE, OUTSIDE)}

    monkeypatch.setattr(kernel, "sources", sources)
    inside: Any = Inside()

    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await half_open.make_way(inside, lambda: {443}, lambda: has_routes)

    asyncio.run(run())
    return inside.kept_out, n_asked


def test_routes_make_way_for_one_client_of_many_which_is_enough_for_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept_out, n_asked = look(monkeypatch, 0.1, has_routes=True)
    assert len(kept_out) == 1
    assert kept_out[0] in INSIDE
    assert n_asked > 1


def test_of_a_flood_of_syns_from_made_up_addresses_some_are_looked_up_each_time() -> None:
    asked: set[str] = set()

    def holds(sockaddr: tuple[str, int]) -> bool:
        asked.add(sockaddr[0])
        return False

    inside: Any = Inside()
    inside.holds_stream = holds
    one = ip_address("192.0.2.1")  # many connections of one are one source
    flood = {(ip_address("198.18.0.0") + n, 5000) for n in range(4096)}
    half_open._look(inside, flood | {(one, port) for port in range(4096)})  # noqa: SLF001
    assert len(asked) == half_open.LOOKED_AT
    for _ in range(1000):  # whichever it is, its turn comes
        half_open._look(inside, flood)  # noqa: SLF001
    assert len(asked) > 4000


def test_without_routes_to_the_device_the_kernel_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert look(monkeypatch, 0.05, has_routes=False) == ([], 0)


def test_what_has_begun_is_read_from_the_kernel_and_what_is_established_is_not() -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert kernel.sources({port}) == set()
