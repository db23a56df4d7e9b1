"""Frames that are too long for the path: in pieces to a peer that joins them, else it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import structlog

from fastun import log
from fastun.lane.messages import SetPacketMax
from fastun.link.datagram.peer import HelloExchange
from fastun.link.hello import Ability, Hello
from fastun.native import Joins
from tests.unit.link.datagram.test_path_mtu import Office

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.link.datagram.peer import UdpPeer


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


def test_a_peer_that_joins_pieces_is_sent_them_also_in_a_session_that_has_not_said_so_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(monkeypatch, mode="tap")
    office.inner_mtu.change(1500)
    office.peer.hello.joins_pieces = True
    office.measure(1500)
    office.peer.hello.joins_pieces = None
    office.link.is_new_path = True
    office.watch.measure(cast("UdpPeer", office.peer), 6.0)
    assert office.lane.take() == [("tun-reader", SetPacketMax(3, 1440, joins_pieces=True))]


@pytest.mark.parametrize(
    ("abilities", "offload", "joins"),
    [
        ((), ("tcp", "udp"), Joins.NONE),
        ((Ability.JOINS_PIECES,), ("tcp",), Joins.FRAMES),
        ((Ability.JOINS_SUPER_PACKETS,), ("tcp",), Joins.SUPER_PACKETS),
        ((Ability.JOINS_SUPER_PACKETS,), (), Joins.NONE),
    ],
)
def test_what_goes_in_pieces_is_what_the_peers_hello_says_it_joins(
    abilities: tuple[Ability, ...], offload: tuple[str, ...], joins: Joins
) -> None:
    said = Hello(
        version=1,
        software="",
        mode="tun",
        offload=offload,
        message_max=1280,
        abilities=frozenset(abilities),
    )
    assert HelloExchange().joins_pieces is None
    assert HelloExchange(theirs=said).joins_pieces == joins


def test_frames_that_go_in_fragments_are_said_once_with_the_mtu_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(monkeypatch, mode="tap")
    office.inner_mtu.change(1500)
    office.peer.hello.joins_pieces = False
    for _ in range(3):
        office.measure(1500)
    office.inner_mtu.change(1418)
    office.measure(1500)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "IP fragments" in line]
    assert "warning" in line
    assert "--mtu 1418" in line
    assert "peer=bob" in line
    assert "longest=1436" in line


@pytest.mark.parametrize(("mode", "joins"), [("tap", True), ("tap", None), ("tun", False)])
def test_nothing_is_said_where_no_frame_goes_in_fragments(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    joins: bool | None,
) -> None:
    office = Office(monkeypatch, mode=mode)
    office.peer.hello.joins_pieces = joins
    office.measure(1300)
    assert "IP fragments" not in capsys.readouterr().err
