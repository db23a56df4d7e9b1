"""Routes that come to lead inside while links are up: what is done about it, and when."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.lane.messages import BlockLink, LinkFormat
from fastun.link.endpoint_watch import (
    ALL_INTERVAL_S,
    CHANGED_INTERVAL_S,
    LOOK_INTERVAL_S,
    EndpointWatch,
)
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import LinkTable
from fastun.native import Mode, UdpAddress, Wire
from fastun.peers.peer import Peer
from tests.support.inside_of import DEVICE, Routes
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.link.stream.handshake import Established

HOST, ELSEWHERE = "192.0.2.1", "192.0.2.9"
FORMAT = LinkFormat(
    Wire.WIREGUARD,
    Mode.TUN,
    super_outbound=False,
    super_inbound=False,
    message_max=60000,
    is_datagram=True,
)


def address_of(host: str) -> UdpAddress:
    return UdpAddress(ip_address(host), 51820)


class Watched:
    """A watch over two peers on UDP, at slots 0 and 1."""

    def __init__(self) -> None:
        self.lane, self.routes = RecordingLane(), Routes()
        self.at = {0: address_of(HOST), 1: address_of(ELSEWHERE)}
        self.lane.peers = SimpleNamespace(endpoint=self.at.get)
        self.links = LinkTable(self.lane.as_lane(), FORMAT)
        self.watch = EndpointWatch(self.links, self.routes.inside())
        for slot in (0, 1):
            self.attach(slot)
        self.now_s = 100.0
        self.look(0)

    def attach(self, slot: int) -> None:
        slotted = SlottedPeer(slot, Peer(name=f"peer{slot}", public_key=bytes([slot]) * 32))
        self.links.attach_datagrams(slotted, FORMAT, "somewhere")

    def look(self, after_s: float) -> list[BlockLink]:
        """Return what the link-writer is given."""
        self.lane.take()
        self.now_s += after_s
        self.watch.look(self.now_s)
        given = self.lane.take()
        assert all(role == "link-writer" for role, _ in given)
        return [message for _, message in given if isinstance(message, BlockLink)]


def in_a_loop(claim: Callable[[], None]) -> None:
    async def run() -> None:
        claim()

    asyncio.run(run())


def test_a_route_that_changes_is_noticed_at_once_and_its_peer_alone_is_blocked() -> None:
    def claim() -> None:
        watched = Watched()
        watched.routes.to[HOST] = DEVICE
        assert watched.look(1) == []  # no report of it came
        watched.routes.have_come = True
        assert watched.look(CHANGED_INTERVAL_S) == [BlockLink(0, is_blocked=True)]
        watched.routes.have_come = True
        assert watched.look(CHANGED_INTERVAL_S) == []
        watched.routes.to.clear()
        watched.routes.have_come = True
        assert watched.look(CHANGED_INTERVAL_S) == [BlockLink(0, is_blocked=False)]

    in_a_loop(claim)


def test_changes_without_end_cost_one_look_a_second() -> None:
    def claim() -> None:
        watched = Watched()
        watched.routes.to[HOST] = DEVICE
        watched.routes.have_come = True
        watched.look(CHANGED_INTERVAL_S / 2)
        assert watched.routes.asked == [(host, 51820, 17, "") for host in (HOST, ELSEWHERE)]
        assert watched.look(CHANGED_INTERVAL_S / 2) == [BlockLink(0, is_blocked=True)]

    in_a_loop(claim)


@given(st.lists(st.floats(-0.05, 0.05), max_size=12))
def test_no_change_waits_for_more_than_a_second_where_looks_come_a_little_early_or_late(
    offsets: list[float],
) -> None:
    def claim() -> None:
        watched = Watched()
        waits = 0
        for n, offset_s in enumerate(offsets, start=1):
            n_asked = len(watched.routes.asked)
            watched.routes.have_come = True
            watched.look(100.0 + n * LOOK_INTERVAL_S + offset_s - watched.now_s)
            waits = 0 if len(watched.routes.asked) > n_asked else waits + 1
            assert (waits + 1) * LOOK_INTERVAL_S <= CHANGED_INTERVAL_S

    in_a_loop(claim)


def test_all_are_looked_at_now_and_then_and_a_peer_that_moved_at_once() -> None:
    def claim() -> None:
        watched = Watched()
        watched.routes.to[HOST] = DEVICE
        assert watched.look(ALL_INTERVAL_S - 1) == []
        assert watched.look(1) == [BlockLink(0, is_blocked=True)]
        watched.at[0] = address_of("192.0.2.5")
        assert watched.look(0.25) == [BlockLink(0, is_blocked=False)]
        watched.at[1] = address_of(HOST)
        assert watched.look(0.25) == [BlockLink(1, is_blocked=True)]

    in_a_loop(claim)


def test_a_new_link_and_a_new_link_writer_get_the_state_again() -> None:
    def claim() -> None:
        watched = Watched()
        watched.at[0] = address_of(ELSEWHERE)
        watched.routes.to[ELSEWHERE] = DEVICE
        assert len(watched.look(ALL_INTERVAL_S)) == 2
        watched.attach(0)
        assert watched.look(0.25) == [BlockLink(0, is_blocked=True)]
        watched.links.end(0, "gone")
        assert watched.look(0.25) == []
        watched.attach(0)
        assert watched.look(0.25) == [BlockLink(0, is_blocked=True)]
        watched.watch.on_link_writer_death()
        assert len(watched.look(0.25)) == 2

    in_a_loop(claim)


def test_a_stream_whose_route_leads_inside_ends() -> None:
    def claim() -> None:
        watched = Watched()
        with ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ours = socket.create_connection(server.getsockname())
            slotted = SlottedPeer(2, Peer(name="peer2", public_key=bytes(32)))
            established = SimpleNamespace(
                number=0, bundle=0, slotted=slotted, link_format=FORMAT, software="", hello=None
            )
            link = watched.links.attach_stream(
                cast("Established", established), ours, "127.0.0.1:1"
            )
            watched.look(ALL_INTERVAL_S)
            assert watched.links.by_slot[2] is link
            watched.routes.to["127.0.0.1"] = DEVICE
            watched.lane.take()
            watched.watch.look(watched.now_s + ALL_INTERVAL_S)
            assert 2 not in watched.links.by_slot
            assert link.ended.is_set()
            assert set(watched.links.by_slot) == {0, 1}

    in_a_loop(claim)


def test_routes_are_asked_once_to_make_way_before_there_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watched = Watched()
    asked: list[object] = []
    inside = watched.watch._inside  # noqa: SLF001
    inside.subscribe(lambda: asked.append(inside.kept_out))
    capsys.readouterr()
    watched.routes.to[HOST] = DEVICE
    assert watched.look(ALL_INTERVAL_S) == [BlockLink(0, is_blocked=True)]
    assert not "".join(capsys.readouterr())
    assert watched.look(0.5) == []
    assert "leads into the tunnel itself" in "".join(capsys.readouterr())
    assert asked == [{ip_address(HOST)}]


def test_of_very_many_addresses_found_inside_the_newest_are_kept() -> None:
    inside = Routes().inside()
    inside.subscribe(lambda: None)
    for number in range(300):
        inside.keep_out(f"10.0.{number // 256}.{number % 256}")
    assert len(inside.kept_out) == 256
    assert ip_address("10.0.1.43") in inside.kept_out
    assert ip_address("10.0.0.0") not in inside.kept_out
