"""Our address that a peer knows: when it goes, and what keeps it."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.link.datagram.peer import SourcePin
from fastun.link.datagram.source_pin import SourcePins
from fastun.native import UdpAddress
from tests.support.inside_of import DEVICE, OTHER, Routes

if TYPE_CHECKING:
    from fastun.link.datagram.peer import UdpPeer

PEER, OURS, FIRST, SECOND = "192.0.2.1", "198.51.100.1", OTHER, 5


class Office:
    """A peer whose datagrams arrive by FIRST at OURS, which belongs to that interface."""

    def __init__(self, *, arrives_by: int = FIRST, host: str = PEER, zone: int = 0) -> None:
        self.routes = Routes()
        self.routes.homes[OURS] = FIRST
        self.given: list[UdpAddress] = []
        self.free_socket = 0
        peers = SimpleNamespace(send_endpoint=lambda peer: self.given.append(peer.address))
        sockets = SimpleNamespace(free_of=lambda _: self.free_socket)
        self.pins = SourcePins(self.routes.inside(), cast("Any", peers), cast("Any", sockets))
        self.heard = UdpAddress(
            ip_address(host), 51820, zone=zone, local=ip_address(OURS), local_zone=arrives_by
        )
        self.peer = SimpleNamespace(
            address=self.heard,
            pin=SourcePin(),
            slotted=SimpleNamespace(peer=SimpleNamespace(name="bob")),
        )
        assert not self.look(routes_changed=False)

    def look(self, *, routes_changed: bool = True) -> bool:
        return self.pins.watch(cast("UdpPeer", self.peer), routes_changed=routes_changed)

    @property
    def source(self) -> str:
        return str(self.peer.address.local or "")


def test_the_source_goes_when_the_way_leads_by_another_interface() -> None:
    office = Office()
    assert not office.look()
    office.routes.to[PEER] = SECOND
    assert not office.look(routes_changed=False)
    assert office.look()
    assert office.source == ""
    assert office.given == [office.peer.address]
    assert office.peer.address == office.heard.without_source(left=True)
    assert not office.look(), "it is tried once"


def test_another_router_is_tried_with_the_same_source() -> None:
    office = Office()
    office.routes.gateways[PEER] = b"\n\0\0\2"
    assert office.look()
    assert (office.source, office.given) == (OURS, [])
    assert not office.look()


@pytest.mark.parametrize("home", [1, SECOND])
def test_an_address_of_another_interface_stays_the_source_by_any_uplink(home: int) -> None:
    office = Office()
    office.routes.homes[OURS] = home
    office.routes.to[PEER] = SECOND
    assert office.look()
    assert (office.source, office.given) == (OURS, [])


def test_what_arrives_by_one_uplink_and_leaves_by_another_all_the_time_is_left_alone() -> None:
    office = Office(arrives_by=SECOND)
    office.routes.homes[OURS] = SECOND
    for _ in range(3):
        assert not office.look()
    assert (office.source, office.given) == (OURS, [])


def test_what_was_on_its_way_does_not_bring_the_source_back() -> None:
    office = Office()
    office.routes.to[PEER] = SECOND
    office.look()
    for routes_changed in (False, True):
        office.peer.address = office.heard
        assert not office.look(routes_changed=routes_changed)
        assert office.source == ""
    assert len(office.given) == 3


def test_a_way_that_leads_back_lets_the_source_be_learned_again() -> None:
    office = Office()
    office.routes.to[PEER] = SECOND
    office.look()
    office.routes.to[PEER] = FIRST
    assert office.look()
    assert office.given[-1] == office.peer.address == office.heard.without_source()
    office.peer.address = office.heard
    assert not office.look()
    assert office.source == OURS


def test_an_address_that_has_gone_is_not_a_source() -> None:
    office = Office()
    office.routes.to[OURS] = 0  # the kernel returns an error to questions with it
    assert office.look()
    assert office.source == ""


def test_without_any_route_all_stays_until_there_is_one() -> None:
    office = Office()
    office.routes.to.update({OURS: 0, PEER: 0})
    assert not office.look()
    office.routes.to.update({OURS: SECOND, PEER: SECOND})
    assert office.look()
    assert office.source == ""


def test_a_way_into_the_tunnel_is_none() -> None:
    office = Office()
    office.routes.to[PEER] = DEVICE
    assert not office.look()
    assert office.source == OURS


def test_a_link_local_address_names_its_interface() -> None:
    office = Office(host="fe80::1", zone=FIRST)
    office.routes.to["fe80::1"] = SECOND
    assert not office.look()


def test_a_socket_that_is_bound_to_the_source_is_left_for_another() -> None:
    office = Office()
    office.free_socket = 3
    office.routes.to[PEER] = SECOND
    assert office.look()
    assert (office.peer.address.socket_index, office.source) == (3, "")


def test_a_peer_that_roams_is_measured_from_there() -> None:
    office = Office()
    office.routes.to["192.0.2.77"] = SECOND
    office.peer.address = UdpAddress(
        ip_address("192.0.2.77"), 51820, local=ip_address(OURS), local_zone=FIRST
    )
    assert not office.look()
    assert not office.look()
    assert office.source == OURS
