"""What the host process does of what it is asked, and where the values that it goes by are from."""

from __future__ import annotations

import pickle
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fastun.config.settings import Options, load
from fastun.ending import AskedToStop
from fastun.host.dns.name_lookup import DnsFiles
from fastun.host.inner_mtu import InnerMtu
from fastun.host.process import messages, work
from fastun.host.process.channel import Unasked
from fastun.host.process.work import HostWork, OthersMtu
from fastun.host.wanted import Applied, Wanted
from tests.support.pushed_device import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastun.config.settings import Settings

Working = "Callable[..., tuple[HostWork, Device]]"

OFFICE, LAB = ip_network("10.7.0.0/16"), ip_network("10.8.0.0/16")


class Device:
    """One that notes what it is to have."""

    def __init__(self) -> None:
        self.had: list[Any] = []
        self.inner_mtu = InnerMtu(1420)
        self.wanted = Wanted(mtu=1420)

    def route_also(self, networks: Any) -> None:
        self.had.append(list(networks))

    def change(self, its: Settings, _: Any) -> Applied:
        self.had.append(its)
        return Applied(its.mtu)

    def __exit__(self, *_: object) -> None:
        self.had.append("closed")


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[HostWork, Device]]:
    """What makes one whose file has settings, one after the other."""

    def made_with(its: Settings, *read: Settings) -> tuple[HostWork, Device]:
        files = iter(read)
        made, device = HostWork(its, lambda _: next(files)), Device()
        monkeypatch.setattr(made, "_device", device)
        return made, device

    return made_with


def test_routes_to_peers_of_the_directory_are_those_that_it_has(
    working: Working, tmp_path: Path
) -> None:
    server = replace(load("serve", None, Options(state=tmp_path)), table="auto")
    made, device = working(server)
    made.route_behind(messages.RouteBehind(networks=(str(OFFICE),)))
    made.behind = lambda: frozenset({OFFICE})
    made.route_behind(messages.RouteBehind(networks=(str(OFFICE), str(LAB))))
    assert device.had == [[], [OFFICE]]


def test_a_reload_has_its_values_from_the_file_and_goes_back_to_those_of_before(
    working: Working,
) -> None:
    before = settings("10.0.0.0/8", accept=())
    read = replace(before, mtu=1300, allow_lan=True, fwmark=99, interface="other0")
    made, device = working(before, read)
    answer = made.reread(messages.Reread())
    assert pickle.loads(answer.settings) == read  # noqa: S301
    changed = made.change_device(messages.ChangeDevice(fields=("mtu",)))
    assert changed.applied.mtu == device.inner_mtu.bytes == 1300
    made.change_device(messages.ChangeDevice())
    assert device.had == [replace(before, mtu=1300), before]
    made.adopt(messages.Adopt(fields=("allow_lan",)))
    assert made.settings == replace(before, allow_lan=True)
    with pytest.raises(Unasked, match="addresses, which accept does not list"):
        made.push(messages.Push(addresses=("10.9.0.2/24",)))


def test_an_mtu_that_another_program_has_set_is_known_from_ours() -> None:
    inner, others = InnerMtu(1420), OthersMtu()
    inner.subscribe(others.note)
    for ours in (1300, 1420):
        inner.change(1380)  # as the monitor does
        assert others.n_bytes == 1380
        others.set_ours(inner, ours)
        assert (inner.bytes, others.n_bytes) == (ours, 0)


def test_lookups_may_go_to_the_dns_servers_of_this_host(
    working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DnsFiles("nameserver 192.0.2.53\n", "", "")
    monkeypatch.setattr(work.DnsFiles, "read", classmethod(lambda _: files))
    allowed: list[object] = []
    made, _ = working(settings("10.0.0.0/8"))
    monkeypatch.setattr(made, "_switch", SimpleNamespace(allow_lookups=allowed.append))
    made.allow_lookups(messages.AllowLookups(servers=("198.51.100.1", "192.0.2.53")))
    assert allowed == [["192.0.2.53"]]


def test_nothing_is_done_before_the_device_and_what_comes_after_it_is_refused_quietly() -> None:
    made = HostWork(settings("10.0.0.0/8"), None)
    for ask in (
        lambda: made.keep_out(messages.KeepOut()),
        lambda: made.follow_endpoints(messages.FollowEndpoints()),
    ):
        with pytest.raises(Unasked):
            ask()
    made.close()
    with pytest.raises(AskedToStop):
        made.keep_out(messages.KeepOut())
    with pytest.raises(Unasked, match="settings that are not of a file"):
        made.reread(messages.Reread())
