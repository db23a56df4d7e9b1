"""What workers report, and which links and sessions their starts and deaths concern."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest

from fastun.gateway.reports import REASON_CHARS_MAX, SENDERS, Interface, Reports, Sessions
from fastun.host import tun
from fastun.lane.messages import (
    ControlCame,
    DeviceGone,
    KeyAdded,
    KeyConfirmed,
    LinkEnded,
    PathTooNarrow,
    Ready,
    RefusalChanged,
    SessionWanted,
    StreamHandshakeCame,
    ToGateway,
    UdpHandshakeCame,
    WorkerFailed,
)
from fastun.lane.ways import WaysSet
from fastun.native import ROLES, Confined, UdpAddress

SEALED_ONLY = [
    StreamHandshakeCame(1, 2, b"hello"),
    KeyAdded(1, 3),
    KeyConfirmed(1, 2, 3),
    UdpHandshakeCame(bytes(48), b"hello"),
    ControlCame(1, 3, b"hello"),
    SessionWanted(1),
    PathTooNarrow(1),
]


NO_FD = 2**20  # a device that is gone

OWN_LANE, UNCONCERNED_LANE, STRANGE_LANE = range(3)
UNREFUSED = RefusalChanged(1, 0, "x")
OF_A_LINK = [LinkEnded(1, 7, "x"), StreamHandshakeCame(1, 7, b"x"), KeyConfirmed(1, 7, 3)]


class Gateway:
    """Reports with mocks of all that they act on, and what came of it."""

    def __init__(self, *, streams: bool = True, datagrams: bool = True) -> None:
        self.all = Mock()
        self.all.links.is_of_another_lane = lambda _slot, _link_id, lane: lane == STRANGE_LANE
        self.all.links.concerns = lambda _slot, lane: lane == OWN_LANE
        self.all.slots.by_slot = {1: SimpleNamespace(peer=SimpleNamespace(name="ant"))}
        updates: Any = SimpleNamespace(receive=lambda _, message: message == b"update")
        moves: Any = SimpleNamespace(receive=lambda *_: False)
        both = Sessions(
            self.all.streams,
            self.all.datagrams if datagrams else None,
            updates,
            moves,
        )
        self.reports = Reports(
            Interface("fastun0", NO_FD),
            self.all.slots,
            self.all.links,
            both if streams else None,
            on_link_writer_death=self.all.on_link_writer_death,
            on_failure=self.all.on_failure,
        )

    def calls_of(self, message: ToGateway, role: str = "", lane: int = OWN_LANE) -> list[Any]:
        role = role or SENDERS.get(type(message), ROLES)[0]
        self.worker = worker(role, lane)
        self.reports.on_message(self.worker, message)
        return self.all.mock_calls

    def calls_at_death_of(self, role: str) -> list[Any]:
        self.reports.on_death(worker(role))
        return self.all.mock_calls


def worker(role: str, lane: int = 0) -> Any:
    return SimpleNamespace(role=role, lane=lane, name=f"{role}/{lane}", kill=Mock())


# -- messages ---------------------------------------------------------------------------------


def test_a_link_that_ended_is_ended_with_the_workers_reason() -> None:
    assert Gateway().calls_of(LinkEnded(1, 7, "reset")) == [call.links.end(1, "reset", 7)]


def test_a_deleted_interface_ends_the_gateway() -> None:
    gateway = Gateway()
    gateway.calls_of(DeviceGone("File descriptor in bad state"))
    ((error,), _) = gateway.all.on_failure.call_args
    assert str(error) == (
        "interface fastun0 was deleted by another program (File descriptor in bad state); "
        "start fastun again"
    )


def test_that_the_device_is_gone_is_not_believed_while_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tun, "is_deleted", lambda fd: fd != NO_FD)
    gateway = Gateway()
    assert gateway.calls_of(DeviceGone("File descriptor in bad state")) == []
    gateway.worker.kill.assert_called_once_with("unexpected message: DeviceGone")


def test_why_a_worker_failed_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert Gateway().calls_of(WorkerFailed("no memory" + 300 * "!")) == []
    captured = capsys.readouterr()
    (line,) = (captured.out + captured.err).splitlines()
    for part in ("worker failed", "tun-reader/0", "no memory!!"):
        assert part in line
    assert line.count("!") < REASON_CHARS_MAX


@pytest.mark.parametrize("message", SEALED_ONLY, ids=lambda message: type(message).__name__)
def test_what_only_the_wireguard_wire_has_is_an_error_on_others(
    message: ToGateway,
) -> None:
    gateway = Gateway(streams=False)
    assert gateway.calls_of(message) == []
    gateway.worker.kill.assert_called_once_with(f"unexpected message: {type(message).__name__}")


def test_a_handshake_message_is_for_the_streams() -> None:
    assert Gateway().calls_of(StreamHandshakeCame(1, 2, b"x")) == [
        call.streams.on_handshake(1, 2, b"x")
    ]


@pytest.mark.parametrize(
    ("message", "method"),
    [(KeyAdded(1, 3), "on_key_added"), (KeyConfirmed(1, 2, 3), "on_key_confirmed")],
)
def test_a_key_may_be_of_either_kind_of_session(message: ToGateway, method: str) -> None:
    expected = [getattr(part, method)(1, 3) for part in (call.streams, call.datagrams)]
    assert Gateway().calls_of(message) == expected
    assert Gateway(datagrams=False).calls_of(message) == expected[:1]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (ControlCame(1, 3, b"x"), call.datagrams.on_control(1, 3, b"x")),
        (SessionWanted(1), call.datagrams.begin(1)),
        (PathTooNarrow(1), call.datagrams.on_path_too_narrow(1)),
    ],
)
def test_what_comes_on_udp_is_for_its_sessions(message: ToGateway, expected: object) -> None:
    assert Gateway().calls_of(message) == [expected]
    assert Gateway(datagrams=False).calls_of(message) == []


def test_a_datagram_comes_with_its_address() -> None:
    address = UdpAddress(ip_address("192.0.2.1"), 51820)
    ((_, arguments, _),) = Gateway().calls_of(UdpHandshakeCame(address.pack(), b"x"))
    assert arguments == (address, b"x")


def test_an_offload_of_a_peer_that_was_removed_meanwhile_is_passed_over() -> None:
    gateway = Gateway()
    assert gateway.calls_of(RefusalChanged(2, 0, "Input/output error")) == []


# -- a worker's start and death ---------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_fresh_worker_gets_the_peers_before_the_links_and_those_before_the_keys(
    role: str,
) -> None:
    gateway = Gateway()
    fresh = worker(role)
    gateway.reports.on_start(fresh)
    assert gateway.all.mock_calls == [
        call.slots.tell_worker(fresh),
        call.datagrams.tell_worker(fresh),
        call.links.tell_worker(fresh),
        call.streams.tell_keys(fresh),
        call.datagrams.tell_keys(fresh),
    ]


def test_a_worker_of_any_lane_hears_of_udp() -> None:
    gateway = Gateway()
    fresh = worker("link-reader", 1)
    gateway.reports.on_start(fresh)
    assert gateway.all.mock_calls == [
        call.slots.tell_worker(fresh),
        call.datagrams.tell_worker(fresh),
        call.links.tell_worker(fresh),
        call.streams.tell_keys(fresh),
        call.datagrams.tell_keys(fresh),
    ]


@pytest.mark.parametrize("role", ["tun-reader", "tun-writer"])
def test_a_worker_that_has_no_part_in_a_connection_ends_no_link(role: str) -> None:
    assert Gateway().calls_at_death_of(role) == []
    assert Gateway(streams=False).calls_at_death_of(role) == []


def test_a_dead_link_writer_ends_the_streams() -> None:
    assert Gateway().calls_at_death_of("link-writer") == [
        call.on_link_writer_death(),
        call.links.end_streams("link-writer died", 0),
    ]


def test_a_dead_worker_of_another_lane_ends_the_streams_of_that_one() -> None:
    gateway = Gateway()
    gateway.reports.on_death(worker("link-writer", 3))
    assert gateway.all.mock_calls == [
        call.on_link_writer_death(),
        call.links.end_streams("link-writer died", 3),
    ]


def forged() -> list[tuple[str, ToGateway]]:
    messages = (*SEALED_ONLY, LinkEnded(1, 7, "x"), DeviceGone("x"), RefusalChanged(1, 0, "x"))
    return [(role, each) for each in messages for role in ROLES if role not in SENDERS[type(each)]]


@pytest.mark.parametrize(("role", "message"), forged())
def test_what_is_another_roles_to_report_comes_to_nothing(role: str, message: ToGateway) -> None:
    gateway = Gateway()
    assert gateway.calls_of(message, role) == []
    gateway.worker.kill.assert_called_once_with(f"unexpected message: {type(message).__name__}")


@pytest.mark.parametrize("message", OF_A_LINK, ids=lambda message: type(message).__name__)
def test_a_worker_that_names_a_link_of_another_lane_is_ended(message: ToGateway) -> None:
    gateway = Gateway()
    assert gateway.calls_of(message, lane=STRANGE_LANE) == []
    gateway.worker.kill.assert_called_once_with(f"unexpected message: {type(message).__name__}")


@pytest.mark.parametrize(
    "message",
    [each for each in (*SEALED_ONLY, *OF_A_LINK, UNREFUSED) if hasattr(each, "slot")],
    ids=lambda message: type(message).__name__,
)
def test_what_a_worker_says_of_a_peer_of_other_lanes_comes_to_nothing(message: ToGateway) -> None:
    """It may be late; it is no reason to end it."""
    gateway = Gateway()
    assert gateway.calls_of(message, lane=UNCONCERNED_LANE) == []
    gateway.worker.kill.assert_not_called()


def test_that_a_tun_reader_has_ways_is_said_with_its_lane() -> None:
    assert Gateway().calls_of(WaysSet(1, 5), lane=2) == [call.links.of_peers.on_set(1, 5, 2)]


def test_only_the_link_reader_speaks_for_a_peer() -> None:
    for message in SEALED_ONLY:
        senders = ("tun-reader", "link-writer") if len(message.__struct_fields__) == 1 else ()
        assert set(SENDERS[type(message)]) <= {*senders, "link-reader"}
    assert set(ToGateway.__subclasses__()) - set(SENDERS) == {Ready, WorkerFailed}


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("link-reader", UdpHandshakeCame(b"short", b"hello")),
        ("tun-writer", RefusalChanged(1, 99, "no memory")),
    ],
)
def test_what_no_worker_reports_comes_to_nothing(role: str, message: ToGateway) -> None:
    gateway = Gateway()
    assert gateway.calls_of(message, role) == []
    gateway.worker.kill.assert_called_once_with(f"unexpected message: {type(message).__name__}")


def test_a_dead_link_reader_ends_the_streams() -> None:
    for has_sessions in (True, False):
        gateway = Gateway(streams=has_sessions, datagrams=has_sessions)
        calls = gateway.calls_at_death_of("link-reader")
        assert call.links.end_streams("link-reader died", 0) in calls


def test_a_message_that_no_handler_takes_ends_its_worker() -> None:
    gateway = Gateway()
    assert gateway.calls_of(Ready(Confined(0, 0, has_filter=False))) == []
    gateway.worker.kill.assert_called_once_with("unexpected message: Ready")


def test_a_workers_words_are_cut_where_a_line_is_long_enough() -> None:
    calls = Gateway().calls_of(LinkEnded(1, 7, "x" * 8000))
    assert calls == [call.links.end(1, "x" * REASON_CHARS_MAX + "...", 7)]
