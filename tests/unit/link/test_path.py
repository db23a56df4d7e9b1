"""The MTU of a path as it is known, and what the tun-reader is told of it."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun._native import UdpAddress
from fastun.channel import SetPathMtu
from fastun.link import path
from fastun.link.hinted import HintedLimit, RecentCounters
from fastun.link.path import PathWatch
from fastun.link.probe import PathSearch
from tests.unit.recording_lane import RecordingLane

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.link.correspondent import Correspondent


INDEX = 0xABCD


class Office:
    """A path whose MTU outside is `outside`, to a peer in slot 3."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mode: str = "tun", host: str = "") -> None:
        self.outside: int | None = 1500
        self.marks: list[int] = []
        monkeypatch.setattr(path, "local_mtu", self._local_mtu)
        self.lane = RecordingLane()
        self.sealed = 1000
        self.lane.peers = SimpleNamespace(read=lambda _, field: {"sealed": self.sealed}[field])
        settings = SimpleNamespace(mtu=1420, mode=mode, fwmark=7)
        self.watch = PathWatch(self.lane.as_lane(), cast("Settings", settings))
        self.link = SimpleNamespace(path_mtu=0, is_new_path=True)
        self.peer = SimpleNamespace(
            member=SimpleNamespace(slot=3, peer=SimpleNamespace(name="bob")),
            address=UdpAddress(ip_address(host or "192.0.2.1"), 51820),
            link=self.link,
            path_mtu=0,
            path_whole=0,
            path_seen_s=float("-inf"),
            narrow_seen_s=float("-inf"),
            path_address=None,
            path_search=PathSearch(),
            path_hinted=HintedLimit(),
            recent=RecentCounters(),
            hello=SimpleNamespace(theirs=None, next_counter=20),
            current=SimpleNamespace(remote_index=INDEX),
        )

    def _local_mtu(self, _: UdpAddress, fwmark: int) -> int:
        self.marks.append(fwmark)
        if self.outside is None:
            raise OSError(errno.ENETUNREACH, "no route")
        return self.outside

    def measure(self, outside: int | None) -> list[int]:
        """Return what the tun-reader was told."""
        self.outside = outside
        self.watch.measure(cast("Correspondent", self.peer), 5.0)
        told = self.lane.take()
        assert all(role == "tun-reader" for role, _ in told)
        messages = [message for _, message in told]
        assert all(isinstance(message, SetPathMtu) and message.slot == 3 for message in messages)
        return [message.path_mtu for message in messages if isinstance(message, SetPathMtu)]


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(monkeypatch)


def test_a_new_link_is_told_once_of_a_path_that_fits(office: Office) -> None:
    assert office.measure(1500) == [1420]
    assert office.measure(1500) == []
    assert office.measure(1480) == []
    assert office.link.path_mtu == 1480
    assert set(office.marks) == {7}


def test_a_narrow_path_is_told_and_a_wide_one_again(office: Office) -> None:
    assert office.measure(1479) == [1419]
    assert office.measure(1479) == []
    assert office.measure(1300) == [1240]
    assert office.measure(1500) == [1420]


def test_a_new_link_is_told_of_what_the_last_one_knew(office: Office) -> None:
    office.measure(1400)
    office.link.is_new_path = True
    assert office.measure(1400) == [1340]


def test_ipv6_has_a_longer_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Office(monkeypatch, host="2001:db8::1").measure(1400) == [1320]


def test_an_ethernet_frame_is_longer_than_its_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(monkeypatch, mode="tap")
    assert office.measure(1501) == [1441]
    assert office.measure(1502) == [1442]
    assert office.measure(1503) == []


def test_no_path_is_narrower_than_ip_allows(office: Office) -> None:
    assert office.measure(100) == [516]


def test_without_a_route_nothing_changes(office: Office) -> None:
    office.measure(1400)
    assert office.measure(None) == []
    assert office.peer.path_mtu == 1340


@pytest.mark.parametrize("missing", ["address", "link"])
def test_who_has_no_address_or_link_is_not_measured(office: Office, missing: str) -> None:
    setattr(office.peer, missing, None)
    assert office.measure(1400) == []
    assert office.marks == []


def test_a_path_is_looked_at_now_and_then(office: Office) -> None:
    def looks_at(now_s: float) -> bool:
        office.marks.clear()
        office.watch.watch(cast("Correspondent", office.peer), now_s)
        return bool(office.marks)

    assert looks_at(100.0)
    assert not looks_at(100.0 + path.LOOK_INTERVAL_S - 0.1)
    assert looks_at(100.0 + path.LOOK_INTERVAL_S)


@pytest.mark.parametrize("mode", ["tun", "tap"])
@pytest.mark.parametrize(
    ("mtu", "outside", "inside"),
    [(1300, 1500, 1300), (1400, 1500, 1400), (1500, 1500, 1440), (8000, 9000, 8000)],
)
def test_a_path_follows_the_devices_mtu(
    monkeypatch: pytest.MonkeyPatch, mode: str, mtu: int, outside: int, inside: int
) -> None:
    office = Office(monkeypatch, mode=mode)
    office.measure(outside)
    office.watch.follow_mtu(mtu)
    office.link.is_new_path = True  # or nothing is told where the path is what limits
    assert office.measure(outside) == [min(inside + (22 if mode == "tap" else 0), outside - 60)]


def test_probes_follow_the_devices_mtu(office: Office) -> None:
    for mtu, longest in ((1420, 1480), (1300, 1360), (1500, 1500)):
        office.watch.follow_mtu(mtu)
        office.measure(1500)
        assert office.peer.path_search.due(0.0) == longest


def test_datagrams_that_do_not_fit_have_the_path_measured_once_a_second(office: Office) -> None:
    office.outside = 1500

    def looks_at(now_s: float) -> bool:
        office.marks.clear()
        office.watch.on_too_narrow(cast("Correspondent", office.peer), now_s)
        return bool(office.marks)

    office.measure(1500)
    assert looks_at(5.0), "the look before had another cause"
    assert not looks_at(5.0 + path.NARROW_INTERVAL_S - 0.1)
    assert looks_at(5.0 + path.NARROW_INTERVAL_S)
