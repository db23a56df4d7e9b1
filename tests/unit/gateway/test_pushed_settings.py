"""What a server pushes, as a client takes it: whose, which of it, and in what order."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from ipaddress import ip_interface, ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog

from fastun import log
from fastun.config.push import Push
from fastun.config.settings import Options, Settings, load
from fastun.errors import RuntimeFailure
from fastun.gateway import pushed_settings
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from fastun.peers.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.host.device import Device


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


def settings(*allowed: str, **fields: Any) -> Settings:
    """Settings of a client whose only peer has these allowed IPs."""
    plain = load("connect", "tcp://server", Options(wire="plain", insecure=True))
    server = Peer(name="server", public_key=bytes(32), allowed_ips=tuple(map(ip_network, allowed)))
    return dataclasses.replace(plain, peers=(server,), **fields)


def nothing(*_: object) -> None:
    """What takes a pushed keepalive, where it does not matter."""


def device_of(**methods: Any) -> Any:
    """A device with these methods; the MTU that it says it has is the one pushed, or 1420."""
    apply = methods.pop("apply", nothing)

    def applying(addresses: Any, routes: Any, mtu: int, outer: Any, **_: bool) -> Applied:
        apply(addresses, routes, mtu, outer)
        return Applied(mtu or 1420)

    return SimpleNamespace(inner_mtu=InnerMtu(1420), apply=applying, **methods)


PUSH = Push(
    addresses=("10.9.0.2/24",),
    routes=("10.9.0.0/24", "10.0.0.0/8", "0.0.0.0/0", "fd00:9::/64", "192.168.7.0/24"),
    mtu=1400,
)


def apply(pushed: PushedSettings, push: Push) -> None:
    pushed.take("server", push)
    asyncio.run(pushed.apply())


def applied(accept: tuple[str, ...], *allowed: str) -> tuple[Any, ...]:
    """Return the addresses, routes and MTU that the device is given."""
    given: list[tuple[Any, ...]] = []
    device = cast(
        "Device",
        device_of(apply=lambda *what: given.append(what), apply_dns=lambda *_: None),
    )
    apply(PushedSettings(settings(*allowed, accept=accept), device, nothing), PUSH)
    addresses, routes, mtu, _ = given[0]
    return addresses, list(map(str, routes)), mtu


def test_nothing_is_applied_that_is_not_accepted() -> None:
    assert applied((), "0.0.0.0/0") == ([], [], 0)
    assert applied(("addresses",), "10.9.0.0/24") == ([ip_interface("10.9.0.2/24")], [], 0)
    assert applied(("mtu",), "0.0.0.0/0") == ([], [], 1400)


@pytest.mark.parametrize(
    ("allowed", "routes"),
    [
        ((), []),
        (("10.9.0.0/24",), ["10.9.0.0/24"]),
        (("10.9.0.0/25",), []),
        (("10.0.0.0/8",), ["10.9.0.0/24", "10.0.0.0/8"]),
        (("10.9.0.0/24", "fd00::/16"), ["10.9.0.0/24", "fd00:9::/64"]),
        (("::/0",), ["fd00:9::/64"]),
    ],
)
def test_a_route_is_taken_only_within_what_the_server_may_send_from(
    allowed: tuple[str, ...], routes: list[str]
) -> None:
    assert applied(("routes",), *allowed)[1] == routes


def addresses_taken(addresses: tuple[str, ...], *allowed: str) -> list[str]:
    given: list[str] = []
    device = device_of(apply=lambda some, *_: given.extend(map(str, some)))
    pushed_settings = PushedSettings(
        settings(*allowed, accept=("addresses",)), cast("Device", device), nothing
    )
    apply(pushed_settings, Push(addresses=addresses))
    return given


EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.9.0.2/24", ("10.9.0.0/24",)),
        ("10.9.0.2/24", ("fd00:9::/64", "10.0.0.0/8")),
        ("10.9.0.2/8", EVERYTHING),
        ("10.9.0.2/32", ("10.9.0.2/32",)),
        ("fd00:9::2/64", ("fd00:9::/64",)),
    ],
)
def test_an_address_is_taken_whose_network_the_server_may_send_from(
    address: str, allowed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert addresses_taken((address,), *allowed) == [address]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("address", "allowed", "why"),
    [
        ("10.9.0.2/23", ("10.9.0.0/24",), "not within"),
        ("10.9.1.2/24", ("10.9.0.0/24",), "not within"),
        ("10.9.0.2/24", (), "not within"),
        ("10.9.0.2/24", ("::/0",), "not within"),
        ("8.8.8.8/1", EVERYTHING, "its network is wider than /8"),
        ("200.0.0.1/1", EVERYTHING, "its network is wider than /8"),
        ("1.2.3.4/0", EVERYTHING, "its network is wider than /8"),
        ("10.9.0.2/7", EVERYTHING, "its network is wider than /8"),
        ("2000::1/3", EVERYTHING, "its network is wider than /8"),
        ("0.0.0.0/0", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("0.0.0.0/32", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("::/64", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("224.0.0.1/24", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("ff02::1/64", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("127.0.0.53/32", EVERYTHING, "a multicast, unspecified or loopback address"),
        ("::1/128", EVERYTHING, "a multicast, unspecified or loopback address"),
    ],
)
def test_an_address_that_pulls_in_more_is_not_taken_and_one_warning_says_why(
    address: str, allowed: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = "fd00:7::2/64"
    taken = addresses_taken((address, good, "172.16.0.1/4"), "fd00:7::/64", *allowed)
    assert taken == [good]
    (warning,) = capsys.readouterr().err.splitlines()
    assert address in warning
    assert why in warning
    assert "others=1" in warning


@pytest.mark.parametrize(
    "error",
    [RuntimeFailure("route 10.9.0.0/24: the kernel refuses it"), OSError(19, "no such device")],
)
def test_a_push_that_the_kernel_refuses_ends_nothing(
    capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    device = cast("Device", device_of(apply=refuse))
    apply(PushedSettings(settings(accept=("routes",)), device, nothing), PUSH)
    assert "cannot apply pushed settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mtu", "own", "pushed", "applied"),
    [
        (1500, ("fd00:9::2/64",), (), 1500),
        (1280, ("fd00:9::2/64",), (), 1280),
        (1279, ("fd00:9::2/64",), (), 0),
        (1279, (), ("fd00:9::2/64",), 0),
        (1279, ("10.9.0.2/24",), (), 1279),
        (0, ("fd00:9::2/64",), (), 0),
    ],
)
def test_no_mtu_is_taken_that_would_take_ipv6_from_the_device(
    mtu: int,
    own: tuple[str, ...],
    pushed: tuple[str, ...],
    applied: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[int] = []
    device = device_of(apply=lambda _addresses, _routes, mtu, _outer: given.append(mtu))
    client = settings("::/0", addresses=tuple(map(ip_interface, own)), accept=("addresses", "mtu"))
    pushed_settings = PushedSettings(client, cast("Device", device), nothing)
    apply(pushed_settings, Push(addresses=pushed, mtu=mtu))
    assert given == [applied]
    said = capsys.readouterr().err
    assert ("pushed MTU refused" in said) == (mtu != applied)


def test_the_inner_mtu_changes_after_the_device_and_its_subscribers_follow_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[object] = []
    device = device_of(apply=lambda *_: seen.append("applied"))
    device.inner_mtu.subscribe(seen.append)
    pushed_settings = PushedSettings(settings(accept=("mtu",)), device, nothing)
    apply(pushed_settings, PUSH)
    apply(pushed_settings, PUSH)
    assert seen == ["applied", 1400, "applied"]
    assert device.inner_mtu.bytes == 1400
    apply(pushed_settings, Push())
    assert seen[-1] == 1420
    assert capsys.readouterr().err.count("MTU changed by the server") == 2


@pytest.mark.parametrize(("accept", "taken"), [(("keepalive",), 25), (("addresses", "mtu"), 0)])
def test_a_pushed_keepalive_is_taken_only_where_it_is_accepted(
    accept: tuple[str, ...], taken: int
) -> None:
    given: list[tuple[str, int]] = []
    pushed_settings = PushedSettings(
        settings(accept=accept), device_of(), lambda peer, s: given.append((peer.name, s))
    )
    apply(pushed_settings, Push(keepalive=25))
    assert given == [("server", taken)]


def test_a_push_without_a_keepalive_takes_back_that_of_the_last() -> None:
    given: list[int] = []
    pushed_settings = PushedSettings(
        settings(accept=("keepalive",)), device_of(), lambda _, s: given.append(s)
    )
    apply(pushed_settings, Push(keepalive=25))
    apply(pushed_settings, Push())
    assert given == [25, 0]


# -- one by one -------------------------------------------------------------------------------


class SlowDevice:
    """Takes a while to apply what it is said; `begun` and `done` have the MTUs."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.go_on = threading.Semaphore(0)
        self.inner_mtu = InnerMtu(1420)

    def apply(
        self, _addresses: object, _routes: object, mtu: int, _outer: object, **_: bool
    ) -> Applied:
        self.begun.append(mtu)
        self.go_on.acquire(timeout=5)  # a test that fails ends all the same
        self.done.append(mtu)
        return Applied(mtu)

    def release(self, n: int = 1) -> None:
        self.go_on.release(n)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 (a thread makes it so)
            await asyncio.sleep(0.001)


def taking(role: str, device: SlowDevice) -> PushedSettings:
    serving = load("serve", None, Options(wire="plain", insecure=True))
    accepting = serving if role == "serve" else settings(accept=("mtu",))
    return PushedSettings(accepting, cast("Device", device), nothing)


def test_one_is_applied_at_a_time_and_of_those_that_come_meanwhile_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushed_settings, "PAUSE_S", 0.0)

    async def scene() -> None:
        device = SlowDevice()
        pushed = taking("connect", device)
        running = asyncio.create_task(pushed.run())
        pushed.take("server", Push(mtu=1300))
        await until(lambda: device.begun == [1300])
        for mtu in (1400, 1301, 1500):
            pushed.take("server", Push(mtu=mtu))
        await asyncio.sleep(0.02)
        assert device.begun == [1300]
        device.release(5)
        await until(lambda: device.done == [1300, 1500])
        await asyncio.sleep(0.02)
        assert device.begun == [1300, 1500]
        running.cancel()

    asyncio.run(scene())


def test_our_own_addresses_that_change_during_a_push_are_kept_out_after_it() -> None:
    async def scene() -> None:
        device, outer, placed = SlowDevice(), {1}, []
        device.outer_changed = placed.append  # type: ignore[attr-defined]
        its, there = settings(accept=("mtu",)), cast("Device", device)
        pushed = PushedSettings(its, there, nothing, lambda: set(outer))  # type: ignore[arg-type]
        applying = asyncio.create_task(pushed.apply())
        await until(lambda: device.begun == [0])
        placing = asyncio.create_task(pushed.place_outer())
        await asyncio.sleep(0.02)
        assert placed == []
        outer.add(2)
        device.release()
        await asyncio.gather(applying, placing)
        assert placed == [{1, 2}]

    asyncio.run(scene())


def test_constant_pushes_are_applied_once_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushed_settings, "PAUSE_S", 60.0)  # longer than all of them may take

    async def scene() -> None:
        device = SlowDevice()
        device.release(100)
        pushed = taking("connect", device)
        running = asyncio.create_task(pushed.run())
        for mtu in range(1000, 1100):
            pushed.take("server", Push(mtu=mtu))
            await asyncio.sleep(0.002)
        assert len(device.begun) == 1
        running.cancel()

    asyncio.run(scene())


def test_of_several_servers_each_replaces_its_own_and_stays_within_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[Any] = []
    device = device_of(apply=lambda _, routes, *__: given.append(list(map(str, routes))))
    two = settings("10.9.0.0/16", accept=("routes",))
    others_ips = (ip_network("10.8.0.0/16"),)
    other = Peer(name="other", public_key=bytes(31) + b"1", allowed_ips=others_ips)
    two = dataclasses.replace(two, peers=(*two.peers, other))
    pushed_settings = PushedSettings(two, cast("Device", device), nothing)
    apply(pushed_settings, Push(routes=("10.9.1.0/24", "10.8.1.0/24")))
    pushed_settings.take("other", Push(routes=("10.8.2.0/24", "10.9.2.0/24")))
    asyncio.run(pushed_settings.apply())
    apply(pushed_settings, Push(routes=("10.9.3.0/24",)))
    assert given == [
        ["10.9.1.0/24"],
        ["10.9.1.0/24", "10.8.2.0/24"],
        ["10.9.3.0/24", "10.8.2.0/24"],
    ]
    assert "refused" not in capsys.readouterr().err


def test_a_push_without_name_servers_takes_back_those_of_the_last() -> None:
    given: list[Any] = []
    device = device_of(apply=lambda *_: None, apply_dns=lambda *dns: given.append(dns))
    pushed_settings = PushedSettings(settings(accept=("dns",)), cast("Device", device), nothing)
    apply(pushed_settings, Push(dns=("10.9.0.1",)))
    apply(pushed_settings, Push())
    assert given == [(("10.9.0.1",), ()), ((), ())]


def test_what_is_wrong_again_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    device = device_of(apply=lambda *_: None)
    pushed_settings = PushedSettings(
        settings(accept=("addresses",)), cast("Device", device), nothing
    )
    for address in ("10.9.0.2/24", "10.9.0.2/24", "10.9.0.3/24"):
        apply(pushed_settings, Push(addresses=(address,)))
    assert capsys.readouterr().err.count("refused") == 2


def test_a_serving_side_is_pushed_nothing() -> None:
    async def scene() -> None:
        device = SlowDevice()
        device.release(10)
        pushed = taking("serve", device)
        pushed.take("server", Push(mtu=1300))
        running = asyncio.create_task(pushed.run())
        await asyncio.sleep(0.05)
        assert device.begun == []
        running.cancel()

    asyncio.run(scene())
