"""Names of endpoints: one lookup for all, the last answer kept, and what is said of waiting."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.host.dns.resolved import NoSuchNameError, NotYetError, UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.link import names as module
from fastun.link.names import refuse_missing
from tests.support.known_names import KnownNames
from tests.support.stream_owner import run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

UDP, TCP = Endpoint("udp", "vpn", 51820), Endpoint("tcp", "vpn", 55555)
NO_DNS, NO_NAME = NotYetError("no DNS"), NoSuchNameError("no such name")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "FRESH_S": 0.2,
        "RETRY_S": 0.02,
        "WAIT_KNOWN_S": 0.1,
        "WAIT_UNKNOWN_S": 0.6,
        "HANGS_AFTER_S": 0.2,
        "MISSING_LIMIT_S": 0.3,
    }.items():
        monkeypatch.setattr(module, name, value)
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


def of_endpoint(endpoint: Endpoint, *hosts: str) -> tuple[EndpointAddress, ...]:
    return tuple(EndpointAddress(ip_address(host), endpoint.port, 0) for host in hosts)


def test_all_that_want_a_name_share_one_lookup_and_get_their_own_port() -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=["2001:db8::1", "192.0.2.1"])
        names = dns.names()
        found = await asyncio.gather(*(names.addresses(each) for each in (UDP, TCP, UDP)))
        expected = [of_endpoint(each, "2001:db8::1", "192.0.2.1") for each in (UDP, TCP, UDP)]
        assert found == expected
        assert await names.addresses(TCP) == expected[1]
        assert dns.asked == ["vpn"]
        await asyncio.sleep(0.25)
        await names.addresses(TCP)
        assert dns.asked == ["vpn", "vpn"], "an answer is not used for ever"

    run(claim())


def test_what_is_an_address_is_not_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    async def claim() -> None:
        dns = KnownNames()
        names = dns.names()
        for host in ("192.0.2.1", "2001:db8::1"):
            there = Endpoint("udp", host, 1)
            assert await names.addresses(there) == of_endpoint(there, host)
        (local,) = await names.addresses(Endpoint("udp", "fe80::1%lo", 1))
        assert local == EndpointAddress(ip_address("fe80::1"), 1, 1)
        with pytest.raises(NotYetError, match="no interface eth77 yet"):
            await names.addresses(Endpoint("udp", "fe80::1%eth77", 1))
        assert dns.asked == []

    run(claim())
    assert "waiting for it  name=fe80::1%eth77" in capsys.readouterr().err


def test_routes_and_rules_are_placed_before_an_address_is_used_and_when_it_changes() -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=["192.0.2.1"])
        placed = asyncio.Event()
        at_place: list[set[object]] = []

        async def place() -> None:
            at_place.append(set(names.hosts()))
            await placed.wait()

        names = module.Names(dns.lookup, place)
        using = asyncio.create_task(names.addresses(UDP))
        await until(lambda: at_place)
        assert not using.done()
        placed.set()
        await using
        for hosts in (["192.0.2.1"], ["192.0.2.2", "192.0.2.1"], ["192.0.2.1", "192.0.2.2"]):
            dns.answers["vpn"] = list(hosts)
            await asyncio.sleep(0.25)
            await names.addresses(UDP)
        both = {ip_address("192.0.2.1"), ip_address("192.0.2.2")}
        assert at_place == [{ip_address("192.0.2.1")}, both]

    run(claim())


@pytest.mark.parametrize("error", [NO_DNS, NO_NAME])
def test_a_name_that_is_waited_for_is_one_warning_and_a_line_when_it_is_there(
    error: UnresolvedError, capsys: pytest.CaptureFixture[str]
) -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=error)
        names = dns.names()
        for _ in range(5):
            with pytest.raises(type(error), match=error.why):
                await names.addresses(UDP)
            await asyncio.sleep(0.03)
        assert len(dns.asked) == 5
        dns.answers["vpn"] = ["192.0.2.1"]
        assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.1")

    run(claim())
    warning, info = capsys.readouterr().err.splitlines()
    assert "warning" in warning
    assert "name=vpn" in warning
    assert error.why in warning
    assert "name resolved  name=vpn  addresses=192.0.2.1  after_s=0" in info


def test_without_dns_the_last_addresses_are_used_and_others_are_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=["192.0.2.1"])
        names = dns.names()
        for answer in (["192.0.2.1"], NO_DNS, NO_NAME):
            dns.answers["vpn"] = answer
            assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.1")
            await asyncio.sleep(0.25)
        dns.answers["vpn"] = ["192.0.2.9"]
        assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.9")
        assert "after_s=" in capsys.readouterr().err
        await asyncio.sleep(0.25)
        dns.answers["vpn"] = ["192.0.2.8"]
        assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.8")
        assert "name has other addresses" in capsys.readouterr().err

    run(claim())


def test_a_resolver_that_hangs_holds_up_nothing_that_is_known_and_not_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hanging = threading.Event()

    async def claim() -> None:
        loop = asyncio.get_running_loop()
        dns = KnownNames(vpn=["192.0.2.1"], other=["192.0.2.2"])
        names = dns.names()
        await names.addresses(UDP)
        dns.meanwhile = lambda: hanging.wait(10)
        await asyncio.sleep(0.25)
        begun_s = loop.time()
        assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.1")
        assert loop.time() - begun_s < 0.5
        with pytest.raises(NotYetError, match="no answer from DNS"):
            await names.addresses(Endpoint("udp", "other", 1))
        assert "waiting for DNS  name=other" in capsys.readouterr().err
        for _ in range(3):  # its servers may be those of another network: one more is tried
            with pytest.raises(NotYetError):
                await names.addresses(Endpoint("udp", "other", 1))
        assert dns.asked.count("other") == 2
        names.close()

    begun_s = asyncio.run(_timed(claim()))
    hanging.set()
    assert begun_s < 5


async def _timed(work: object) -> float:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await work  # type: ignore[misc]
    return loop.time() - begun_s


def test_a_lookup_that_ends_after_a_later_one_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    release, n_begun = threading.Event(), 0

    async def claim() -> None:
        dns = KnownNames(vpn=NO_DNS)

        def meanwhile() -> None:
            nonlocal n_begun
            n_begun += 1
            if n_begun == 1:
                release.wait(10)
            else:
                dns.answers["vpn"] = ["192.0.2.1"]

        dns.meanwhile = meanwhile
        names = dns.names()
        assert await names.addresses(UDP) == of_endpoint(UDP, "192.0.2.1")
        assert n_begun == 2
        dns.answers["vpn"] = NO_NAME
        release.set()
        await asyncio.sleep(0.1)
        assert names.missing_for_s("vpn") == 0
        assert names.hosts() == {ip_address("192.0.2.1")}
        assert names.hosts(but={"vpn"}) == set(), "as for what we listen on ourselves"

    run(claim())
    assert "does not exist" not in capsys.readouterr().err


@pytest.mark.parametrize("n_links", [0, 1])
def test_only_names_that_no_endpoint_has_end_a_gateway_that_was_never_linked(n_links: int) -> None:
    async def claim() -> None:
        dns = KnownNames(vpn=NO_NAME, other=NO_DNS)
        both = (UDP, Endpoint("tcp", "other", 1))
        waiting = asyncio.create_task(refuse_missing(dns.names(), both, lambda: False))
        await asyncio.sleep(0.6)
        assert not waiting.done(), "one of the two may be there soon"
        dns.answers["other"] = NO_NAME
        await asyncio.sleep(0.2)
        assert not waiting.done(), "nor is one that did not exist just now missing for good"
        if n_links:
            waiting.cancel()
            await refuse_missing(dns.names(), both, lambda: True)
            return
        with pytest.raises(ConfigError, match=r"udp://vpn:51820: the host name does not exist"):
            await waiting

    run(claim())


def test_an_endpoint_that_is_an_address_is_never_missing() -> None:
    async def claim() -> None:
        literal = Endpoint("udp", "192.0.2.1", 1)
        await refuse_missing(KnownNames().names(), (UDP, literal), lambda: False)

    run(claim())
