"""The links that the lane carries: what each worker is told, when, and how a link ends."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun._native import Mode, Offload, Wire
from fastun.channel import AttachLink, DetachLink, LinkFormat
from fastun.link.greeting import Greeted
from fastun.link.table import LinkTable
from fastun.peers import Peer
from fastun.roster import Member
from tests.unit.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.device import Device


def link_format(wire: Wire) -> LinkFormat:
    return LinkFormat(wire, Mode.TUN, super_outbound=True, super_inbound=True, message_max=60000)


class Office:
    """A table whose lane and device note in one list what they are told."""

    def __init__(self, wire: Wire, stack: ExitStack) -> None:
        self.wire = wire
        self.lane = RecordingLane()
        self.told: list[object] = []
        device = SimpleNamespace(set_offload=self.told.append)
        self.lane.send = self._send  # type: ignore[method-assign]
        default = link_format(wire)
        self.table = LinkTable(self.lane.as_lane(), cast("Device", device), default)
        self.fds: list[int] = []
        self._stack = stack

    def _send(self, role: str, message: object, fd: int = -1) -> None:
        self.told.append((role, message))
        self.fds.append(fd)

    def attach(self, slot: int, name: str, offload: Offload = Offload.TCP) -> socket.socket:
        """Attach a link of a peer; the peer's end of it."""
        ours, theirs = (self._stack.enter_context(end) for end in socket.socketpair())
        theirs.settimeout(5)
        member = Member(slot, Peer(name=name, public_key=name.encode().ljust(32)))
        greeted = Greeted(member, link_format(self.wire), offload, "test")
        self.table.attach(greeted, ours, "somewhere")
        return theirs

    def take(self) -> list[object]:
        taken, self.told[:], self.fds[:] = self.told[:], [], []
        return taken


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(params=[Wire.WIREGUARD, Wire.PLAIN])
def office(request: pytest.FixtureRequest, stack: ExitStack) -> Office:
    return Office(request.param, stack)


def test_three_workers_learn_of_a_link_and_two_get_its_socket(office: Office) -> None:
    office.attach(3, "ant")
    (link,) = office.table.by_slot.values()
    message = AttachLink(3, link.id, link.link_format)
    fileno = link.connection.fileno()
    assert office.fds == [-1, fileno, fileno]
    assert [told for told in office.take() if isinstance(told, tuple)] == [
        (role, message) for role in ("tun-reader", "link-reader", "link-writer")
    ]


def test_the_device_gives_more_only_when_the_tun_reader_knows(office: Office) -> None:
    office.attach(0, "ant", Offload.TCP_UDP)
    told = office.take()
    assert told[-1] is Offload.TCP_UDP
    assert len(told) == 4


def test_the_device_gives_less_before_the_tun_reader_knows(stack: ExitStack) -> None:
    office = Office(Wire.WIREGUARD, stack)
    office.attach(0, "ant", Offload.TCP_UDP)
    office.take()
    office.attach(1, "bee", Offload.NONE)
    told = office.take()
    assert told[0] is Offload.NONE
    assert len(told) == 4


def test_a_peer_that_connects_anew_ends_its_old_link(office: Office) -> None:
    old_end = office.attach(0, "ant")
    old = office.table.by_slot[0]
    office.attach(0, "ant")
    assert old.ended.is_set()
    assert old.connection.fileno() == -1
    assert old_end.recv(1) == b""
    assert office.table.by_slot[0] is not old
    assert (office.table.n_established, office.table.n_reconnects) == (2, 1)


def test_another_peers_link_is_no_reconnect_and_stays(office: Office) -> None:
    office.attach(0, "ant")
    office.attach(1, "bee")
    assert sorted(office.table.by_slot) == [0, 1]
    assert (office.table.n_established, office.table.n_reconnects) == (2, 0)


def test_an_ended_link_is_taken_back_from_who_must_not_use_it(office: Office) -> None:
    office.attach(2, "ant")
    office.take()
    office.table.end(2, "told to")
    roles = [told[0] for told in office.take() if isinstance(told, tuple)]
    # Without a session nothing is sealed; without a seal the tun-reader goes on as before.
    sealed = ["tun-reader"] if office.wire is Wire.WIREGUARD else []
    assert roles == ["link-reader", "link-writer", *sealed]
    assert office.table.by_slot == {}


def test_the_stream_ends_also_for_a_worker_that_still_holds_its_descriptor(
    office: Office,
) -> None:
    theirs = office.attach(0, "ant")
    held = office.table.by_slot[0].connection.dup()
    office.table.end(0, "told to")
    assert theirs.recv(1) == b""
    held.close()


def test_news_of_a_link_that_was_replaced_ends_nothing(office: Office) -> None:
    office.attach(0, "ant")
    old = office.table.by_slot[0]
    office.attach(0, "ant")
    new = office.table.by_slot[0]
    office.take()
    office.table.end(0, "late", old.id)
    assert office.table.by_slot == {0: new}
    assert office.take() == []
    office.table.end(0, "in time", new.id)
    assert office.table.by_slot == {}
    office.table.end(0, "nobody's")


def test_all_links_can_be_ended(office: Office) -> None:
    ends = [office.attach(slot, f"p{slot}") for slot in range(3)]
    office.table.end_all("stopping")
    assert office.table.by_slot == {}
    assert [end.recv(1) for end in ends] == [b""] * 3


def test_a_fresh_worker_of_a_sealed_wire_is_told_nothing_since_its_links_have_ended(
    stack: ExitStack,
) -> None:
    office = Office(Wire.WIREGUARD, stack)
    office.attach(0, "ant")
    office.take()
    for role in ("tun-reader", "link-writer", "link-reader", "tun-writer"):
        office.table.tell_worker(role)
    assert office.take() == []


def test_a_fresh_worker_of_an_unsealed_wire_goes_on_with_the_link(stack: ExitStack) -> None:
    office = Office(Wire.PLAIN, stack)
    office.table.tell_worker("tun-reader")
    office.table.tell_worker("link-writer")
    assert office.take() == [("tun-reader", AttachLink(0, 0, link_format(Wire.PLAIN)))]
    office.attach(0, "ant")
    office.take()
    link = office.table.by_slot[0]
    for role in ("tun-reader", "link-writer", "link-reader", "tun-writer"):
        office.table.tell_worker(role)
    assert office.fds == [-1, link.connection.fileno(), link.connection.fileno()]
    message = AttachLink(0, link.id, link.link_format)
    assert office.take() == [
        (role, message) for role in ("tun-reader", "link-writer", "link-reader")
    ]
    office.table.end(0, "told to")
    assert DetachLink(0) in [told[1] for told in office.take() if isinstance(told, tuple)]
