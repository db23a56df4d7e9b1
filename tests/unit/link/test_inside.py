"""What is inside the tunnel: by the route there, and by the interface that something came by."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from fastun import log
from fastun.host.sockets.address import EndpointAddress
from fastun.link.datagram.sockets import UdpSockets
from fastun.link.inside import Inside, LeadsInsideError
from fastun.link.stream import sockets as stream_sockets
from fastun.native import UdpAddress
from tests.support.inside_of import DEVICE, OTHER, Routes
from tests.support.known_names import outside

LOOPBACK = 1


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_datagram_is_inside_where_its_route_leads_into_the_device(host: str) -> None:
    routes = Routes()
    inside, address = routes.inside(), UdpAddress(ip_address(host), 51820)
    assert not inside.holds(address)
    routes.to[host] = DEVICE
    assert inside.holds(address)
    assert routes.asked[-1] == (host, 51820, socket.IPPROTO_UDP, "")


def test_the_route_from_our_address_counts_while_there_is_one() -> None:
    routes = Routes()
    ours, host = ip_address("198.51.100.1"), ip_address("192.0.2.1")
    address = UdpAddress(host, 51820, local=ours)
    routes.to = {str(ours): OTHER, str(host): DEVICE}
    assert not routes.inside().holds(address)
    routes.to = {str(ours): DEVICE, str(host): OTHER}
    assert routes.inside().holds(address)
    routes.to = {str(ours): 0, str(host): DEVICE}  # it has gone
    assert routes.inside().holds(address)
    assert [source for *_, source in routes.asked[-2:]] == [str(ours), ""]


def test_a_link_local_address_is_where_its_zone_is() -> None:
    routes = Routes()
    host = ip_address("fe80::1")
    assert routes.inside().holds(UdpAddress(host, 51820, zone=DEVICE))
    assert not routes.inside().holds(UdpAddress(host, 51820, zone=OTHER))
    assert routes.inside().holds_stream(("fe80::1%ft0", 55555, 0, DEVICE))
    assert not routes.inside().holds_stream(("fe80::1%eth0", 55555, 0, OTHER))
    assert routes.asked == []


def test_a_stream_is_inside_where_its_route_is_also_as_mapped_ipv4() -> None:
    routes = Routes()
    routes.to["192.0.2.1"] = DEVICE
    for sockaddr in (("192.0.2.1", 55555), ("::ffff:192.0.2.1", 55555, 0, 0)):
        assert routes.inside().holds_stream(sockaddr)
        assert routes.asked[-1] == ("192.0.2.1", 55555, socket.IPPROTO_TCP, "")
    assert not routes.inside().holds_stream(("2001:db8::1", 55555, 0, 0))


def test_without_a_lookup_nothing_is_inside() -> None:
    inside = Inside(DEVICE, "ft0", None)
    assert not inside.holds(UdpAddress(ip_address("192.0.2.1"), 51820))
    assert not inside.holds_stream(("192.0.2.1", 55555))
    assert not inside.routes_have_changed()


@pytest.mark.parametrize(
    ("family", "host"),
    [
        pytest.param(socket.AF_INET, "127.0.0.1", id="v4"),
        pytest.param(socket.AF_INET6, "127.0.0.1", id="v4-on-v6"),
        pytest.param(socket.AF_INET6, "::1", id="v6"),
    ],
)
def test_a_connection_is_known_by_the_interface_that_it_came_by(family: int, host: str) -> None:
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    routes = Routes()
    with socket.socket(family) as listener:
        listener.bind(("::" if family == socket.AF_INET6 else "", 0))
        listener.listen()
        with socket.create_connection((host, listener.getsockname()[1]), 5):
            connection, _ = listener.accept()
            with connection:
                loopback = Inside(LOOPBACK, "lo", routes.inside()._lookup)  # noqa: SLF001
                assert loopback.holds_connection(connection)
                assert not routes.inside().holds_connection(connection)
                routes.to[host] = DEVICE  # the answer would go there
                assert routes.inside().holds_connection(connection)
                assert not Inside(LOOPBACK, "lo", None).holds_connection(connection)
    assert not routes.inside().holds_connection(connection)  # closed


def test_each_change_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("console", 0)
    inside = Routes().inside()
    for _ in range(3):
        inside.note("ant", "192.0.2.1:51820", is_inside=False)
    assert capsys.readouterr().err == ""
    for _ in range(3):
        inside.note("ant", "192.0.2.1:51820", is_inside=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the route to 192.0.2.1:51820 leads into the tunnel itself (ft0)" in line
    assert "peer=ant" in line
    inside.note("bee", "192.0.2.1:51820", is_inside=True)
    for _ in range(3):
        inside.note("ant", "192.0.2.1:51820", is_inside=False)
    bee, ant = capsys.readouterr().err.splitlines()
    assert "peer=bee" in bee
    assert "outside the tunnel again" in ant


def test_nothing_is_sent_or_dialled_there() -> None:
    routes = Routes()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        sockets = UdpSockets(
            [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)],
            offload=False,
            inside=routes.inside(),
        )
        address = UdpAddress(ip_address("127.0.0.1"), peer.getsockname()[1])
        there = EndpointAddress(ip_address("127.0.0.1"), server.getsockname()[1], 0)
        routes.to["127.0.0.1"] = DEVICE
        with pytest.raises(LeadsInsideError):
            sockets.send(b"initiation", address)
        with pytest.raises(LeadsInsideError):
            asyncio.run(stream_sockets.dial(there, outside(routes.inside())))
        routes.to.clear()
        sockets.send(b"initiation", address)
        assert peer.recv(64) == b"initiation"
        asyncio.run(stream_sockets.dial(there, outside(routes.inside()))).close()
        sockets.close()
