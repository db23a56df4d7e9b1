"""A host that forwards for a device: the kernel's settings and tables, and how they come back."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.config.forward import Forward
from fastun.host import programs
from fastun.host.firewall import nft
from fastun.host.firewall.forward_table import Between, between_of
from fastun.host.firewall.forwarding import Forwarding
from fastun.host.firewall.nft import NftRefused
from fastun.host.firewall.own_tables import Tables
from fastun.host.journal import sysctls
from fastun.host.journal.journal import Journal
from fastun.lab.host import wait_until
from tests.support.host_state import differences, host_state

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

# Namespaces and programs for each of them.
pytestmark = pytest.mark.slow

TABLE = "fastun_ft0_forward"


class Gateway:
    """What a gateway with the device ft0 has, in a namespace with a LAN and a way out."""

    def __init__(self, host: Host, state: Path, interface: str = "ft0") -> None:
        self.host = host
        self.interface = interface
        self.journal = host.inside(lambda: Journal(state, interface))
        self.forwarding = Forwarding(interface, Tables(self.journal), self.journal)

    def follow(self, forward: Forward | None) -> list[str]:
        """Have it as wanted; return what is refused."""
        refused, _ = self.host.inside(
            lambda: self.forwarding.follow(forward, socket.if_nametoindex(self.interface))
        )
        return [f"{each.reason}; {each.advice}" for each in refused]

    def end(self) -> None:
        assert self.host.inside(self.journal.undo_all) == []

    def settings(self, pattern: str) -> dict[str, str]:
        """Return interface -> value of a setting."""
        names = [name for _, name in self.host.inside(socket.if_nameindex)]
        return self.host.inside(
            lambda: {name: sysctls.value_of(pattern.format(name)) for name in (*names, "all")}
        )


@pytest.fixture
def host(lab: Lab) -> Host:
    host, out, lan = lab.host("host"), lab.host("out"), lab.host("lan")
    lab.wire(host, out, ["198.51.100.2/24", "2001:db8::2/64"], ["198.51.100.1/24"])
    lab.wire(host, lan, ["172.16.9.1/24", "fd09::1/64"], ["172.16.9.2/24"])
    host.ip("route", "add", "default", "via", "198.51.100.1")
    for name, number in (("ft0", 9), ("ft1", 8)):
        host.ip("tuntap", "add", name, "mode", "tun")
        host.ip("link", "set", name, "up")
        host.ip("address", "add", f"10.{number}.0.1/24", "dev", name)
        host.ip("address", "add", f"fd00:{number}::1/64", "dev", name)
    return host


@pytest.fixture
def gateway(host: Host, tmp_path: Path) -> Gateway:
    return Gateway(host, tmp_path)


def test_forwarding_is_on_where_packets_go_and_nowhere_else_and_all_is_undone(
    host: Host, gateway: Gateway
) -> None:
    before = host_state(host)
    assert gateway.follow(Forward(to=(ip_network("172.16.9.0/24"), ip_network("fd09::/64")))) == []
    on = {"lo": "0", "to-out": "0", "to-lan": "1", "ft0": "1", "ft1": "0", "all": "0"}
    assert gateway.settings(sysctls.FORWARDING_IPV4) == on
    if host.inside(lambda: sysctls.exists(sysctls.FORCE_FORWARDING_IPV6.format("all"))):
        assert gateway.settings(sysctls.FORCE_FORWARDING_IPV6) == on
        assert set(gateway.settings(sysctls.FORWARDING_IPV6).values()) == {"0"}
    gateway.end()
    assert differences(before, host_state(host)) == []


def test_what_was_on_stays_on(host: Host, gateway: Gateway) -> None:
    host.sysctl("net.ipv4.conf.to-lan.forwarding", 1)
    before = host_state(host)
    assert gateway.follow(Forward()) == []
    gateway.end()
    assert differences(before, host_state(host)) == []


def test_it_stays_on_where_it_was_turned_on_for_all_since(host: Host, gateway: Gateway) -> None:
    gateway.follow(Forward())
    assert not host.inside(gateway.forwarding.is_outdated)
    host.sysctl("net.ipv4.ip_forward", 1)
    assert host.inside(gateway.forwarding.is_outdated)
    assert [each.version for each in between(host)] == [4, 6]
    gateway.follow(Forward())
    assert [each.version for each in between(host)] == [6]
    gateway.end()
    assert gateway.settings(sysctls.FORWARDING_IPV4)["to-lan"] == "1"


def between(host: Host, name: str = TABLE) -> list[Between]:
    return list(between_of(host.inside(lambda: nft.items_of(name))))


def test_a_table_says_to_other_gateways_what_was_off(host: Host, gateway: Gateway) -> None:
    gateway.follow(Forward())
    assert [(version, set(names)) for version, names in between(host)] == [
        (4, {"to-out", "to-lan"}),
        (6, {"to-out", "to-lan"}),
    ]


@pytest.mark.parametrize("ends_first", [0, 1])
def test_of_two_gateways_that_know_nothing_of_each_other_the_last_restores(
    host: Host, tmp_path: Path, ends_first: int
) -> None:
    devices = [host.inside(lambda name=name: open_tun(name)) for name in ("ft0", "ft1")]  # type: ignore[misc]
    before = settings_of(host)
    both = [Gateway(host, tmp_path / name, name) for name in ("ft0", "ft1")]
    for each in both:
        assert each.follow(Forward()) == []
    for number in (ends_first, 1 - ends_first):
        both[number].end()
        expected = "1" if number == ends_first else "0"
        assert both[number].settings(sysctls.FORWARDING_IPV4)["to-lan"] == expected
        devices[number].close()
    left = differences(before, settings_of(host))
    assert [each for each in left if "/ft" not in each] == [], "a gateway's device goes with it"


def test_what_another_gateway_has_turned_on_is_not_a_wish_of_an_administrator(
    host: Host, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.follow(Forward())
    second = Gateway(host, tmp_path / "ft1", "ft1")
    second.follow(Forward())
    assert [each.version for each in between(host, "fastun_ft1_forward")] == [4, 6]
    for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        host.sysctl(setting, 1)
    assert host.inside(second.forwarding.is_outdated)
    second.follow(Forward())
    # Before Linux 6.17 the first had turned on the same, so that wish does not show.
    shows = host.inside(lambda: sysctls.exists(sysctls.FORCE_FORWARDING_IPV6.format("all")))
    kept = [] if shows else [6]
    assert [each.version for each in between(host, "fastun_ft1_forward")] == kept


def open_tun(name: str) -> socket.socket:
    """Have a device in use, as by a gateway."""
    import fcntl  # noqa: PLC0415
    import os  # noqa: PLC0415

    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
    return os.fdopen(descriptor, "rb", buffering=0)  # type: ignore[return-value]


def test_it_is_turned_off_while_the_gateway_goes_on(host: Host, gateway: Gateway) -> None:
    before = host_state(host)
    gateway.follow(Forward(masquerade=True))
    assert gateway.follow(None) == []
    assert not host.inside(gateway.forwarding.is_outdated)
    assert differences(before, host_state(host)) == []
    assert gateway.follow(Forward()) == []
    gateway.end()
    assert differences(before, host_state(host)) == []


def test_without_nft_nothing_is_turned_on(
    host: Host, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host_state(host)
    monkeypatch.setattr(programs, "find", lambda _: None)
    (refused,) = gateway.follow(Forward(masquerade=True))
    assert refused.startswith("nft is missing; install the package nftables")
    assert differences(before, host_state(host)) == []


def test_a_setting_that_cannot_be_written_is_named(
    host: Host, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host_state(host)

    def refuse(*_: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(sysctls, "write", refuse)
    (refused,) = gateway.follow(Forward())
    assert refused.startswith("net.ipv4.conf.ft0.forwarding cannot be set to 1: Read-only file")
    assert "start the container with --sysctl net.ipv4.ip_forward=1, or" in refused
    gateway.end()
    assert differences(before, host_state(host)) == []


# -- Linux before 6.17 ----------------------------------------------------------------------------


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = sysctls.exists
    monkeypatch.setattr(
        sysctls, "exists", lambda name: "force_forwarding" not in name and exists(name)
    )


def advertise(router: Host, device: str) -> None:
    """Send one router advertisement: a default route for half an hour."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sending:
            sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sending.sendto(body, ("ff02::1", 0, 0, socket.if_nametoindex(device)))

    router.inside(send)


@pytest.mark.usefixtures("old_kernel")
def test_ipv6_is_turned_on_for_the_whole_host_without_losing_an_advertised_route(
    host: Host, gateway: Gateway, lab: Lab
) -> None:
    router = next(each for each in lab.hosts if each.name == "out")

    host.sysctl("net.ipv6.conf.ft1.forwarding", 1)  # which loses such routes

    def has_route() -> bool:
        advertise(router, "to-host")
        return "proto ra" in host.ip("-6", "route", "show", "default")

    wait_until(has_route, "a default route by advertisement")
    before = settings_of(host)
    assert gateway.follow(Forward()) == []
    assert "proto ra" in host.ip("-6", "route", "show", "default")
    assert set(gateway.settings(sysctls.FORWARDING_IPV6).values()) == {"1"}
    assert gateway.settings(sysctls.ACCEPT_RA)["to-out"] == "2"
    assert gateway.settings(sysctls.ACCEPT_RA)["to-lan"] == "1"
    assert (6, {"to-out", "to-lan"}) in [(v, set(names)) for v, names in between(host)]
    assert gateway.follow(Forward()) == []
    assert (6, {"to-out", "to-lan"}) in [(v, set(names)) for v, names in between(host)]
    gateway.end()
    assert differences(before, settings_of(host)) == []
    assert "proto ra" in host.ip("-6", "route", "show", "default")


def settings_of(host: Host) -> dict[str, str]:
    return {name: value for name, value in host_state(host).items() if name.startswith("/proc")}


@pytest.mark.usefixtures("old_kernel")
def test_ipv6_that_was_on_stays_on(host: Host, gateway: Gateway) -> None:
    host.sysctl("net.ipv6.conf.all.forwarding", 1)
    before = settings_of(host)
    gateway.follow(Forward())
    assert [each.version for each in between(host)] == [4]
    gateway.end()
    assert differences(before, settings_of(host)) == []


def test_forwarding_is_what_a_killed_gateway_leaves_to_the_next(
    host: Host, gateway: Gateway
) -> None:
    before = host_state(host)
    gateway.follow(Forward(masquerade=True))
    for change in reversed(gateway.journal.made()):
        host.inside(lambda change=change: change.undo(5, owner_died=True))  # type: ignore[misc]
    assert differences(before, host_state(host)) == []


def test_a_refusal_is_one_line(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NftRefused("nft: Could not process rule: Operation not supported")

    monkeypatch.setattr(nft, "check", refuse)
    assert gateway.follow(Forward()) == ["nft: Could not process rule: Operation not supported; "]
