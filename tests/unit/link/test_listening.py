"""What a serving side listens on: bound freely, waited for, and said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.endpoint import Endpoint
from fastun.errors import RuntimeFailure
from fastun.host.dns.resolved import NotYetError
from fastun.host.sockets import binding
from fastun.link import listening as module
from fastun.link import names
from fastun.link.listening import Listening
from tests.support.known_names import KnownNames
from tests.support.stream_owner import run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = "198.51.100.77"
SCHEMES = ("tcp", "udp")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.05)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


async def both(listening: Listening) -> None:
    listening.bind_known()
    await listening.run()


class Bound:
    """What listens on some endpoints."""

    def __init__(self, dns: KnownNames, *endpoints: Endpoint) -> None:
        self.udp: list[socket.socket] = []
        self.listening = Listening(endpoints, dns.names(), self.udp.append)

    def hosts(self) -> list[str]:
        tcp = [self.listening.streams.get_nowait() for _ in range(self.listening.streams.qsize())]
        return [each.getsockname()[0] for each in (*tcp, *self.udp)]


@contextlib.contextmanager
def bound(dns: KnownNames, *endpoints: Endpoint) -> Iterator[Bound]:
    made = Bound(dns, *endpoints)
    try:
        yield made
    finally:
        made.listening.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_absent_address_is_bound_and_said_once_and_again_when_it_comes_and_goes(
    scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        with bound(
            KnownNames(), Endpoint(scheme, ABSENT, 1), Endpoint(scheme, "127.0.0.1", 0)
        ) as b:  # type: ignore[arg-type]
            b.listening.bind_known()
            assert b.listening.all_bound.is_set()
            assert b.hosts() == [ABSENT, "127.0.0.1"]
            assert b.listening.waits_for() == (f"listen.{scheme} {ABSENT}",)
            watching = asyncio.create_task(b.listening.run())
            await asyncio.sleep(0.2)
            really = binding.is_present
            monkeypatch.setattr(binding, "is_present", lambda _: True)
            await until(lambda: b.listening.waits_for() == ())
            monkeypatch.setattr(binding, "is_present", really)
            await until(b.listening.waits_for)
            watching.cancel()

    run(claim())
    lines = [line for line in capsys.readouterr().err.splitlines() if ABSENT in line]
    said = [line.partition(f"listen.{scheme}: {ABSENT} ")[2] for line in lines[1:]]
    assert said == [
        "is not on any interface yet; waiting for it",
        "is on an interface now",
        "is not on any interface any more; waiting for it",
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_name_is_bound_when_it_resolves(scheme: str) -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=NotYetError("no DNS"))
        here, there = Endpoint(scheme, "127.0.0.1", 0), Endpoint(scheme, "vpn", 0)  # type: ignore[arg-type]
        with bound(dns, here, there) as b:
            b.listening.bind_known()
            assert b.hosts() == ["127.0.0.1"]
            running = asyncio.create_task(b.listening.run())
            await asyncio.sleep(0.1)
            assert not b.listening.all_bound.is_set()
            assert b.listening.waits_for() == (f"listen.{scheme} vpn",)
            dns.answers["vpn"] = ["127.0.0.2"]
            await asyncio.wait_for(b.listening.all_bound.wait(), 5)
            assert "127.0.0.2" in b.hosts()
            assert b.listening.waits_for() == ()
            running.cancel()

    run(claim())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_name_that_comes_to_resolve_to_something_else_is_bound_there_too(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NAMES_INTERVAL_S", 0.05)
    monkeypatch.setattr(names, "FRESH_S", 0.01)

    async def claim() -> None:
        dns = KnownNames(vpn=[ABSENT])
        with bound(dns, Endpoint(scheme, "vpn", 0)) as b:  # type: ignore[arg-type]
            running = asyncio.create_task(b.listening.run())
            await asyncio.wait_for(b.listening.all_bound.wait(), 5)
            assert b.listening.waits_for() == (f"listen.{scheme} {ABSENT}",)
            dns.answers["vpn"] = ["127.0.0.2"]
            await until(lambda: b.listening.waits_for() == ())
            assert sorted(b.hosts()) == ["127.0.0.2", ABSENT]
            # However often it changes, there are not ever more sockets.
            for n in range(3, 20):
                dns.answers["vpn"] = [f"127.0.0.{n}"]
                await asyncio.sleep(0.1)
            assert len(b.hosts()) + (scheme == "tcp") * 2 == module.ADDRESSES_MAX
            running.cancel()

    run(claim())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "vpn"])
def test_a_port_in_use_is_an_error_that_names_the_endpoint(scheme: str, host: str) -> None:
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM

    async def claim() -> None:
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            if scheme == "tcp":
                other.listen()
            port = other.getsockname()[1]
            with bound(KnownNames(vpn=["127.0.0.1"]), Endpoint(scheme, host, port)) as b:  # type: ignore[arg-type]
                with pytest.raises(
                    RuntimeFailure, match=f"--listen {scheme}://{host}:{port}: the port is in use"
                ):
                    await both(b.listening)
                assert not b.listening.all_bound.is_set()

    run(claim())
