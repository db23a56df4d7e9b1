"""ECN over UDP links: what a router marks outside is a mark inside; DSCP on handshakes only.

The server's nft plays the router on the path: it marks outer datagrams as they arrive.
"""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from tests.support.scrapes import drops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import Tunnel
    from tests.conftest import StartTunnel

NOT_ECT, ECT_1, ECT_0, CE = range(4)
AF41 = 0x88
PORT = 7000
IP_RECVTOS, IPV6_RECVTCLASS, IPV6_TCLASS = 13, 66, 67  # linux/in.h, linux/in6.h
ETH_P_ALL, PACKET_OUTGOING = 3, 4  # linux/if_ether.h, linux/if_packet.h
INITIATION, RESPONSE, DATA = 1, 2, (4, 5)  # the last with either cipher


@contextmanager
def router_that_marks(server: Host, outer: int) -> Iterator[None]:
    """Set CE on all UDP that is ECN-capable on its outside, as a full router would."""
    word = "ip" if outer == 4 else "ip6"
    server.run("nft", "add", "table", "inet", "router")
    hook = "{ type filter hook prerouting priority mangle; }"
    server.run("nft", "add", "chain", "inet", "router", "in", hook)
    rule = f'iifname "to-client" meta l4proto udp {word} ecn {{ ect0, ect1 }} {word} ecn set ce'
    server.run("nft", "add", "rule", "inet", "router", "in", *rule.split())
    try:
        yield
    finally:
        server.run("nft", "delete", "table", "inet", "router")


def arrives_as(pair: Tunnel, inner: int, tos: int) -> int:
    """Return a datagram's TOS or traffic class, as an application of the server sees it."""
    family, address = (
        (socket.AF_INET, pair.server.inner_address)
        if inner == 4
        else (socket.AF_INET6, pair.server.inner_address_v6)
    )
    level, receive, transmit = (
        (socket.IPPROTO_IP, IP_RECVTOS, socket.IP_TOS)
        if inner == 4
        else (socket.IPPROTO_IPV6, IPV6_RECVTCLASS, IPV6_TCLASS)
    )
    with (
        pair.server.host.socket(family, socket.SOCK_DGRAM) as receiver,
        pair.client.host.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(level, receive, 1)
        receiver.bind((address, PORT))
        receiver.settimeout(10)
        sender.setsockopt(level, transmit, tos)
        sender.sendto(b"?", (address, PORT))
        _, ancillary, _, _ = receiver.recvmsg(100, 100)
        return int(ancillary[0][2][0])


@pytest.mark.parametrize("outer", [4, 6])
def test_a_mark_on_the_path_is_a_mark_inside(tunnel: StartTunnel, outer: int) -> None:
    pair = tunnel(transport="udp", outer=outer)
    for inner in (4, 6):
        for codepoint in (NOT_ECT, ECT_1, ECT_0, CE):
            assert arrives_as(pair, inner, codepoint) == codepoint
    before = pair.server.scrape().total("fastun_ecn_marked_packets_total", role="link-reader")
    with router_that_marks(pair.server.host, outer):
        for inner in (4, 6):
            # What is not ECN-capable is not so outside either, and so no router marks it.
            assert arrives_as(pair, inner, NOT_ECT) == NOT_ECT
            assert arrives_as(pair, inner, AF41 | ECT_1) == AF41 | CE
            assert arrives_as(pair, inner, ECT_0) == CE
    after = pair.server.scrape()
    assert after.total("fastun_ecn_marked_packets_total", role="link-reader") >= before + 4
    assert ("link-reader", "not_ecn_capable") not in drops(after)


def test_a_mark_on_what_is_not_capable_is_a_loss_with_its_reason(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    server = pair.server.host
    server.run("nft", "add", "table", "ip", "broken")
    hook = "{ type filter hook prerouting priority mangle; }"
    server.run("nft", "add", "chain", "ip", "broken", "in", hook)
    rule = 'iifname "to-client" meta l4proto udp ip ecn set ce'
    server.run("nft", "add", "rule", "ip", "broken", "in", *rule.split())
    with pair.client.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"?", (pair.server.inner_address, PORT))
        wait_until(
            lambda: drops(pair.server.scrape()).get(("link-reader", "not_ecn_capable"), 0) > 0,
            "the packet dropped as not_ecn_capable",
        )


def outer_classes(listener: socket.socket, outer: int) -> Iterator[tuple[int, int]]:
    """Yield the type and the TOS or traffic class of each WireGuard message on the wire."""
    while True:
        try:
            packet = listener.recv(65536)
        except BlockingIOError:
            return
        if outer == 4 and packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP:
            yield packet[28], packet[1]
        elif outer == 6 and packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_UDP:
            yield packet[48], struct.unpack("!H", packet[:2])[0] >> 4 & 0xFF


@pytest.mark.parametrize("outer", [4, 6])
def test_handshakes_have_af41_and_data_has_no_dscp(tunnel: StartTunnel, outer: int) -> None:
    pair = tunnel(transport="udp", outer=outer, wait=False)
    listener = pair.server.host.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with listener:
        pair.server.host.inside(lambda: listener.bind(("to-client", ETH_P_ALL)))
        listener.setblocking(False)
        pair.wait_up()
        assert arrives_as(pair, 4, AF41 | ECT_0) == AF41 | ECT_0
        seen = set(outer_classes(listener, outer))
    assert {tos for kind, tos in seen if kind in (INITIATION, RESPONSE)} == {AF41}
    assert {tos for kind, tos in seen if kind in DATA} == {NOT_ECT, ECT_0}
    assert {INITIATION, RESPONSE, *DATA[:1]} <= {kind for kind, _ in seen}
