"""The links that the lane carries: what each worker is given, when, and how a link ends."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from contextlib import ExitStack
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fastun.lane.messages import AttachLink, DetachLink, ForgetReceivingKeys, LinkFormat
from fastun.link import lingering
from fastun.link.peer_slots import SlottedPeer
from fastun.link.stream.handshake import Established
from fastun.link.table import LinkTable
from fastun.native import Mode, UdpAddress, Wire
from fastun.peers.peer import Peer
from fastun.session.protocol import REJECT_AFTER_TIME_S
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lane.messages import ToWorker


def link_format(wire: Wire) -> LinkFormat:
    return LinkFormat(wire, Mode.TUN, super_outbound=True, super_inbound=True, message_max=60000)


def datagram_format() -> LinkFormat:
    return LinkFormat(
        Wire.WIREGUARD,
        Mode.TUN,
        super_outbound=False,
        super_inbound=False,
        message_max=60000,
        is_datagram=True,
    )


def holder_of(slot: int, name: str) -> SlottedPeer:
    return SlottedPeer(slot, Peer(name=name, public_key=name.encode().ljust(32)))


class Office:
    """A table whose lane notes what the workers are given."""

    def __init__(self, wire: Wire, stack: ExitStack) -> None:
        self.wire = wire
        self.lane = RecordingLane()
        self.table = LinkTable(self.lane.as_lane(), link_format(wire))
        self._stack = stack

    def attach(self, slot: int, name: str) -> socket.socket:
        """Attach a stream of a peer; the peer's end of it."""
        ours, theirs = (self._stack.enter_context(end) for end in socket.socketpair())
        theirs.settimeout(5)
        established = Established(holder_of(slot, name), link_format(self.wire), "test")
        self.table.attach_stream(established, ours, "somewhere")
        return theirs

    def attach_datagrams(self, slot: int, name: str) -> None:
        self.table.attach_datagrams(holder_of(slot, name), datagram_format(), "elsewhere")

    def descriptor_of(self, slot: int) -> int:
        connection = self.table.by_slot[slot].connection
        assert connection is not None
        return connection.fileno()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(params=[Wire.WIREGUARD, Wire.PLAIN])
def office(request: pytest.FixtureRequest, stack: ExitStack) -> Office:
    return Office(request.param, stack)


def test_three_workers_get_a_links_socket_and_what_lays_out_last(office: Office) -> None:
    office.attach(3, "ant")
    link = office.table.by_slot[3]
    message, fileno = AttachLink(3, link.id, link.link_format), office.descriptor_of(3)
    assert office.lane.sent == [
        ("link-reader", message, fileno),
        ("link-writer", message, fileno),
        ("tun-reader", message, fileno),
    ]


def test_a_peer_that_connects_anew_ends_its_old_link(office: Office) -> None:
    old_end = office.attach(0, "ant")
    old = office.table.by_slot[0]
    office.attach(0, "ant")
    assert old.ended.is_set()
    assert old.connection is not None
    assert old.connection.fileno() == -1
    assert old_end.recv(1) == b""
    assert office.table.by_slot[0] is not old
    assert (office.table.n_established, office.table.n_reconnects) == (2, 1)


def test_another_peers_link_is_not_a_reconnect_and_stays(office: Office) -> None:
    office.attach(0, "ant")
    office.attach(1, "bee")
    assert sorted(office.table.by_slot) == [0, 1]
    assert (office.table.n_established, office.table.n_reconnects) == (2, 0)


def test_an_ended_link_is_taken_back_from_workers_that_must_not_use_it(office: Office) -> None:
    office.attach(2, "ant")
    office.lane.take()
    ended = office.table.by_slot[2].ended
    office.table.end(2, "asked to")
    # Without a session nothing is sealed; without a seal the tun-reader goes on as before.
    sealed = [("tun-reader", DetachLink(2))]
    assert office.lane.take() == [
        ("link-writer", DetachLink(2)),
        *(sealed if office.wire is Wire.WIREGUARD else []),
        ("link-reader", DetachLink(2)),
    ]
    assert office.table.by_slot == {}
    assert ended.is_set()


def test_the_stream_ends_also_for_a_worker_that_still_holds_its_descriptor(
    office: Office,
) -> None:
    theirs = office.attach(0, "ant")
    with socket.socket(fileno=os.dup(office.descriptor_of(0))):
        office.table.end(0, "asked to")
        assert theirs.recv(1) == b""


def test_news_of_a_link_that_was_replaced_ends_nothing(office: Office) -> None:
    office.attach(0, "ant")
    old = office.table.by_slot[0]
    office.attach(0, "ant")
    new = office.table.by_slot[0]
    office.lane.take()
    office.table.end(0, "late", old.id)
    assert office.table.by_slot == {0: new}
    assert office.lane.take() == []
    office.table.end(0, "in time", new.id)
    assert office.table.by_slot == {}
    office.table.end(0, "no link there")


def test_all_links_can_be_ended(office: Office) -> None:
    ends = [office.attach(slot, f"p{slot}") for slot in range(3)]
    office.table.end_all("stopping")
    assert office.table.by_slot == {}
    assert [end.recv(1) for end in ends] == [b""] * 3


# -- workers ----------------------------------------------------------------------------------

ROLES = ("tun-reader", "link-writer", "link-reader", "tun-writer")


def test_of_a_sealed_wires_links_a_tun_reader_goes_on_with_all_and_a_link_writer_with_datagrams(
    stack: ExitStack,
) -> None:
    office = Office(Wire.WIREGUARD, stack)
    office.attach(0, "ant")
    office.attach_datagrams(1, "bee")
    stream, datagrams = (
        AttachLink(slot, link.id, link.link_format) for slot, link in office.table.by_slot.items()
    )
    fileno = office.descriptor_of(0)
    office.lane.take()
    for role in ROLES:
        office.table.tell_worker(office.lane.worker(role))
    assert office.lane.sent == [
        ("tun-reader", stream, fileno),
        ("tun-reader", datagrams, -1),
        ("link-writer", datagrams, -1),
    ]


def test_a_fresh_worker_of_an_unsealed_wire_goes_on_with_the_link(stack: ExitStack) -> None:
    office = Office(Wire.PLAIN, stack)
    office.table.tell_worker(office.lane.worker("tun-reader"))
    office.table.tell_worker(office.lane.worker("link-writer"))
    assert office.lane.take() == [("tun-reader", AttachLink(0, 0, link_format(Wire.PLAIN)))]
    office.attach(0, "ant")
    office.lane.take()
    link, fileno = office.table.by_slot[0], office.descriptor_of(0)
    for role in ROLES:
        office.table.tell_worker(office.lane.worker(role))
    message = AttachLink(0, link.id, link.link_format)
    assert office.lane.sent == [
        ("tun-reader", message, fileno),
        ("link-writer", message, fileno),
        ("link-reader", message, fileno),
    ]


# -- from a stream to datagrams ---------------------------------------------------------------


def test_datagrams_need_no_socket_of_their_own_and_no_link_reader(stack: ExitStack) -> None:
    office = Office(Wire.WIREGUARD, stack)
    office.attach_datagrams(4, "ant")
    link = office.table.by_slot[4]
    message = AttachLink(4, link.id, datagram_format())
    assert office.lane.sent == [("link-writer", message, -1), ("tun-reader", message, -1)]
    office.lane.take()
    office.table.end(4, "asked to")
    assert office.lane.take() == [
        ("link-writer", DetachLink(4)),
        ("tun-reader", DetachLink(4)),
    ]


def test_keys_of_an_ended_link_are_wiped_when_none_of_them_can_open_any_more(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(Wire.WIREGUARD, stack)
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    for slot in (1, 2):
        office.attach_datagrams(slot, "ant")
        office.table.end(slot, "asked to")
    office.attach_datagrams(2, "ant")
    office.lane.take()
    now_s += REJECT_AFTER_TIME_S - 1
    office.table.forget_old_keys()
    assert office.lane.take() == []
    now_s += 1
    office.table.forget_old_keys()
    assert office.lane.take() == [("link-reader", ForgetReceivingKeys(1))]
    office.table.forget_old_keys()
    assert office.lane.take() == []


def test_keys_that_came_after_a_link_ended_are_not_wiped_with_those_before(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a further lane on UDP, which has keys before it has a link."""
    office = Office(Wire.WIREGUARD, stack)
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    office.attach_datagrams(1, "ant")
    office.table.end(1, "asked to")
    office.table.note_keys_given(1, office.table.lanes.first)
    office.lane.take()
    now_s += REJECT_AFTER_TIME_S
    office.table.forget_old_keys()
    assert office.lane.take() == []


def going_over(office: Office, slot: int = 0) -> tuple[socket.socket, int]:
    """Have a peer go over from a stream to UDP; its end of the stream, and that link's id."""
    theirs = office.attach(slot, "ant")
    link_id = office.table.by_slot[slot].id
    office.attach_datagrams(slot, "ant")
    office.lane.take()
    return theirs, link_id


def test_a_stream_that_datagrams_replace_is_read_for_a_moment(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)
    office = Office(Wire.WIREGUARD, stack)

    async def claim() -> None:
        office.attach(0, "ant")
        stream = office.table.by_slot[0]
        office.attach_datagrams(0, "ant")
        office.lane.take()
        assert stream.ended.is_set()
        assert stream.connection is not None
        assert stream.connection.fileno() >= 0
        await asyncio.sleep(0.3)
        assert stream.connection.fileno() == -1

    asyncio.run(claim())
    assert office.lane.take() == [("link-reader", DetachLink(0))]
    assert office.table.by_slot[0].transport == "udp"


def test_the_end_of_a_stream_that_is_only_read_ends_no_link(stack: ExitStack) -> None:
    office = Office(Wire.WIREGUARD, stack)

    async def claim() -> None:
        theirs, link_id = going_over(office)
        office.table.end(0, "it ended", link_id)
        assert theirs.recv(1) == b""

    asyncio.run(claim())
    assert office.lane.take() == [("link-reader", DetachLink(0))]
    assert office.table.by_slot[0].transport == "udp"


@pytest.mark.parametrize("how", ["anew", "end", "end_all"])
def test_a_stream_that_is_only_read_goes_with_what_replaced_it(stack: ExitStack, how: str) -> None:
    office = Office(Wire.WIREGUARD, stack)

    async def claim() -> None:
        theirs, _ = going_over(office)
        if how == "anew":
            office.attach(0, "ant")
        elif how == "end":
            office.table.end(0, "asked to")
        else:
            office.table.end_all("stopping")
        assert theirs.recv(1) == b""

    asyncio.run(claim())
    # Whatever is given to read next is given so behind the old stream's end.
    given = [message for role, message in office.lane.take() if role == "link-reader"]
    assert DetachLink(0) in given
    assert (given[-1] == DetachLink(0)) == (how != "anew")


def test_all_streams_can_be_ended_and_datagrams_go_on(stack: ExitStack) -> None:
    office = Office(Wire.WIREGUARD, stack)

    async def claim() -> None:
        theirs = office.attach(0, "ant")
        office.attach_datagrams(1, "bee")
        read, _ = going_over(office, 2)
        office.table.end_streams("a worker died", 1)
        assert len(office.table.by_slot) == 3
        office.table.end_streams("a worker died", 0)
        assert (theirs.recv(1), read.recv(1)) == (b"", b"")

    asyncio.run(claim())
    assert sorted(office.table.by_slot) == [1, 2]


def test_a_link_that_the_workers_cannot_have_has_ended(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no descriptor is left for the duplicate that the second would have had."""
    send, given = office.lane.send, []

    def send_one(role: str, message: ToWorker, fd: int = -1) -> None:
        if fd >= 0 and given:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        given.append(role)
        send(role, message, fd)

    monkeypatch.setattr(office.lane, "send", send_one)
    ours, theirs = socket.socketpair()
    established = Established(holder_of(3, "ant"), link_format(office.wire), "test")
    with theirs:
        with pytest.raises(OSError, match="Too many open files"):
            office.table.attach_stream(established, ours, "somewhere")
        assert theirs.recv(1) == b""
    assert office.table.by_slot == {}
    assert ("link-reader", DetachLink(3)) in office.lane.take()


def test_where_a_link_leads_is_known_while_it_lives(stack: ExitStack) -> None:
    office = Office(Wire.WIREGUARD, stack)
    office.attach_datagrams(0, "ant")
    at: list[UdpAddress | None] = [None]
    office.lane.peers = SimpleNamespace(endpoint=lambda slot: at[slot])  # type: ignore[assignment]
    assert office.table.host_of(office.table.by_slot[0]) is None
    at[0] = UdpAddress(ip_address("192.0.2.7"), 51820)
    assert office.table.host_of(office.table.by_slot[0]) == ip_address("192.0.2.7")

    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    connection = stack.enter_context(socket.create_connection(listener.getsockname()))
    established = Established(holder_of(1, "bee"), link_format(Wire.WIREGUARD), "test")
    link = office.table.attach_stream(established, connection, "somewhere")
    assert office.table.host_of(link) == ip_address("127.0.0.1")
    office.table.end(1, "a test")
    assert office.table.host_of(link) is None
