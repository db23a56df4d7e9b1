"""The MTU of a path as it is known, and what the tun-reader hears of it."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from fastun.host.inner_mtu import InnerMtu
from fastun.lane.messages import SendMessage, SetPacketMax
from fastun.link.datagram import path_mtu as path
from fastun.link.datagram.hinted import HOLD_S
from fastun.link.datagram.hints import Hint
from fastun.link.datagram.path_mtu import PathWatch
from fastun.link.datagram.peer import PeerPath
from fastun.native import UdpAddress
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.link.datagram.peer import UdpPeer


INDEX = 0xABCD


class Office:
    """A path whose MTU outside is `outside`, to a peer in slot 3."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mode: str = "tun", host: str = "") -> None:
        self.outside: int | None = 1500
        self.marks: list[int] = []
        monkeypatch.setattr(path, "local_mtu", self._local_mtu)
        self.lane = RecordingLane()
        self.sealed = 1100
        settings = SimpleNamespace(mode=mode, fwmark=7)
        self.inner_mtu = InnerMtu(1420)
        self.laters: list[tuple[Any, ...]] = []
        self.watch = PathWatch(
            self.lane.as_lane(),
            cast("Settings", settings),
            self.inner_mtu,
            lambda *later: self.laters.append(later),
        )
        self.is_over = False
        ended = SimpleNamespace(is_set=lambda: self.is_over)
        self.link = SimpleNamespace(path_mtu=0, is_new_path=True, ended=ended)
        self.peer = SimpleNamespace(
            slotted=SimpleNamespace(slot=3, peer=SimpleNamespace(name="bob")),
            address=UdpAddress(ip_address(host or "192.0.2.1"), 51820),
            link=self.link,
            path=PeerPath(),
            hello=SimpleNamespace(answers_probes=False, joins_pieces=None),
            next_counter=lambda: self.sealed,
            current=SimpleNamespace(remote_index=INDEX),
        )

    def _local_mtu(self, _: UdpAddress, fwmark: int) -> int:
        self.marks.append(fwmark)
        if self.outside is None:
            raise OSError(errno.ENETUNREACH, "no route")
        return self.outside

    def measure(self, outside: int | None) -> list[int]:
        """Return what the tun-reader was given."""
        self.outside = outside
        self.watch.measure(cast("UdpPeer", self.peer), 5.0)
        given = self.lane.take()
        assert all(role == "tun-reader" for role, _ in given)
        messages = [message for _, message in given]
        assert all(isinstance(message, SetPacketMax) and message.slot == 3 for message in messages)
        return [message.packet_max for message in messages if isinstance(message, SetPacketMax)]


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(monkeypatch)


def test_a_path_that_fits_is_sent_once_for_a_new_link(office: Office) -> None:
    assert office.measure(1500) == [1420]
    assert office.measure(1500) == []
    assert office.measure(1480) == []
    assert office.link.path_mtu == 1480
    assert set(office.marks) == {7}


def test_a_narrow_path_is_sent_and_a_wide_one_again(office: Office) -> None:
    assert office.measure(1479) == [1419]
    assert office.measure(1479) == []
    assert office.measure(1300) == [1240]
    assert office.measure(1500) == [1420]


def test_a_new_link_gets_what_the_last_one_had(office: Office) -> None:
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
    assert office.peer.path.packet_max == 1340


@pytest.mark.parametrize("missing", ["address", "link"])
def test_a_peer_without_address_or_link_is_not_measured(office: Office, missing: str) -> None:
    setattr(office.peer, missing, None)
    assert office.measure(1400) == []
    assert office.marks == []


def test_a_path_is_looked_at_now_and_then(office: Office) -> None:
    def looks_at(now_s: float) -> bool:
        office.marks.clear()
        office.watch.watch(cast("UdpPeer", office.peer), now_s)
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
    office.inner_mtu.change(mtu)
    office.link.is_new_path = True  # or nothing is given where the path is what limits
    assert office.measure(outside) == [min(inside + (22 if mode == "tap" else 0), outside - 60)]


def test_probes_follow_the_devices_mtu(office: Office) -> None:
    for mtu, longest in ((1420, 1480), (1300, 1360), (1500, 1500)):
        office.inner_mtu.change(mtu)
        office.measure(1500)
        assert office.peer.path.search.due(0.0) == longest


def test_datagrams_that_do_not_fit_have_the_path_measured_once_a_second(office: Office) -> None:
    office.outside = 1500

    def looks_at(now_s: float) -> bool:
        office.marks.clear()
        office.watch.on_too_narrow(cast("UdpPeer", office.peer), now_s)
        return bool(office.marks)

    office.measure(1500)
    assert looks_at(5.0), "the look before had another cause"
    assert not looks_at(5.0 + path.NARROW_INTERVAL_S - 0.1)
    assert looks_at(5.0 + path.NARROW_INTERVAL_S)


# -- hints ------------------------------------------------------------------------------------


def hint(mtu: int, **changes: object) -> Hint:
    said = Hint(mtu, 1500, ip_address("192.0.2.1"), 51820, INDEX, 1150)
    return structs.replace(said, **changes)  # type: ignore[arg-type]


def take_hint(office: Office, said: Hint, now_s: float = 20.0) -> str:
    """Return what came of it."""
    before = office.watch.counts.hints.copy()
    office.watch.on_hint(cast("UdpPeer", office.peer), said, now_s)
    return str(next(iter(office.watch.counts.hints - before)))


@pytest.fixture
def plain(office: Office) -> Office:
    """A path to a peer that answers no probes, and which has been in use for a while."""
    office.measure(1500)
    for now_s in (5.0, 11.0, 17.0):
        office.watch.watch(cast("UdpPeer", office.peer), now_s)
    office.sealed += 100
    return office


VERIFIED = [
    pytest.param({}, id="data"),
    pytest.param({"counter": 1199}, id="the newest"),
]
NOT_VERIFIED = [
    pytest.param({"index": INDEX + 1}, id="another index"),
    pytest.param({"index": None, "counter": None}, id="a short quote"),
    pytest.param({"counter": 1200}, id="not sent yet"),
    pytest.param({"counter": 2**63}, id="never sent"),
    pytest.param({"counter": 3}, id="an old one"),
]


@pytest.mark.parametrize("changes", VERIFIED)
def test_a_verified_hint_is_followed_where_the_peer_answers_no_probes(
    plain: Office, changes: dict[str, int]
) -> None:
    plain.lane.take()
    assert take_hint(plain, hint(1400, **changes)) == "followed"
    assert plain.link.path_mtu == 1400
    assert plain.lane.take() == [("tun-reader", SetPacketMax(3, 1340))]
    assert take_hint(plain, hint(1400, **changes)) == "ignored"
    assert plain.watch.counts.narrowings == {"hint": 1}


@pytest.mark.parametrize("changes", NOT_VERIFIED)
def test_one_that_is_not_changes_nothing(plain: Office, changes: dict[str, int]) -> None:
    assert take_hint(plain, hint(1400, **changes)) == "ignored"
    assert plain.link.path_mtu == 1500


def test_a_counter_of_long_ago_proves_nothing(plain: Office) -> None:
    for now_s in (23.0, 29.0):
        plain.sealed += 1000
        plain.watch.watch(cast("UdpPeer", plain.peer), now_s)
    assert take_hint(plain, hint(1400, counter=1150)) == "ignored"


def test_below_the_floor_datagrams_may_be_fragmented_instead(plain: Office) -> None:
    plain.lane.take()
    take_hint(plain, hint(552))
    assert plain.link.path_mtu == 1280
    assert plain.lane.take() == [("tun-reader", SetPacketMax(3, 1220, 492))]


def test_a_hint_is_followed_for_some_time(plain: Office) -> None:
    take_hint(plain, hint(1400))
    plain.watch.watch(cast("UdpPeer", plain.peer), 20.0 + HOLD_S - 1)
    assert plain.link.path_mtu == 1400
    plain.watch.watch(cast("UdpPeer", plain.peer), 20.0 + HOLD_S)
    assert plain.link.path_mtu == 1500


def test_another_path_has_no_hints_yet(plain: Office) -> None:
    take_hint(plain, hint(1400))
    plain.peer.address = UdpAddress(ip_address("192.0.2.9"), 51820)
    plain.measure(1500)
    assert plain.link.path_mtu == 1500


def test_no_path_of_ipv6_is_below_its_least_mtu(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(monkeypatch, host="2001:db8::1")
    office.measure(1500)
    there = ip_address("2001:db8::1")
    office.sealed += 100
    assert take_hint(office, hint(1279, host=there)) == "ignored"
    assert take_hint(office, hint(1280, host=there)) == "followed"


@pytest.fixture
def probed(plain: Office) -> Office:
    """The same to a peer that answers probes."""
    plain.peer.hello.answers_probes = True
    plain.peer.seal_control = lambda content: content
    plain.peer.path.search.due(20.0)
    plain.peer.path.search.on_answer(1480, 20.0)
    plain.lane.take()
    return plain


def asked(office: Office) -> list[int]:
    """The sizes that were asked for, of packets."""
    given = [message for role, message in office.lane.take() if role == "link-writer"]
    assert all(isinstance(message, SendMessage) for message in given)
    return [len(message.message) + 32 + 28 for message in given if isinstance(message, SendMessage)]


def test_a_verified_hint_begins_a_quick_search_and_decides_nothing(probed: Office) -> None:
    assert take_hint(probed, hint(1400)) == "searched"
    assert asked(probed) == [1400]
    assert probed.link.path_mtu == 1500
    assert probed.laters[0][0] < 1
    assert take_hint(probed, hint(1400)) == "ignored"


@pytest.mark.parametrize("changes", NOT_VERIFIED)
def test_one_that_is_not_begins_a_slow_one_now_and_then(
    probed: Office, changes: dict[str, int]
) -> None:
    assert take_hint(probed, hint(1400, **changes)) == "searched"
    assert asked(probed) == [1400]
    assert probed.laters == []
    for now_s in (20.1, 25.0, 29.9):
        assert take_hint(probed, hint(1300, **changes), now_s) == "ignored"


def test_a_quick_search_goes_on_before_the_next_tick_while_the_link_lives(
    probed: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(s=20.0)
    monkeypatch.setattr(path.clock, "boottime_s", lambda: now.s)
    take_hint(probed, hint(1400))
    assert asked(probed) == [1400]
    for is_over in (False, True):
        probed.is_over = is_over
        wait_s, go_on, *whose = probed.laters.pop()
        now.s += wait_s
        go_on(*whose)
        assert asked(probed) == ([] if is_over else [1400])


def test_what_no_probe_can_ask_for_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(monkeypatch)
    office.peer.hello.answers_probes = True
    office.inner_mtu.change(8900)
    office.measure(9000)
    office.sealed += 100
    assert take_hint(office, hint(5000, length=9000)) == "followed"
    assert office.link.path_mtu == 5000


def test_a_refusal_that_no_mtu_explains_is_searched_for(probed: Office) -> None:
    probed.outside = 1500
    probed.watch.on_too_narrow(cast("UdpPeer", probed.peer), 40.0)
    assert probed.peer.path.search.due(40.0) == 1480


def test_without_raw_sockets_the_kernels_cache_begins_a_search(
    probed: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path, "cached_path_mtu", lambda *_: 1300)
    probed.watch.measure(cast("UdpPeer", probed.peer), 30.0)
    assert probed.peer.path.search.due(30.0) == 0
    probed.watch.hears_hints = False
    probed.watch.measure(cast("UdpPeer", probed.peer), 40.0)
    assert probed.peer.path.search.due(40.0) == 1300
    assert probed.link.path_mtu == 1500
