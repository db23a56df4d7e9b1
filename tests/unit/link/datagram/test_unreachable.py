"""ICMP "destination unreachable" about our datagrams: what of it is read (unreachable.py)."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.host.sockets.icmp_filter import program_of
from fastun.lab.network import missing_capability
from fastun.link.datagram import unreachable
from fastun.link.datagram.unreachable import Unreachable, UnreachableListener
from fastun.link.last_error import Reason
from tests.support.forged_icmp import datagram_head

PORT, PEER_PORT = 51820, 4711
HERE = {4: "192.0.2.1", 6: "2001:db8::1"}
PEER = {4: "192.0.2.2", 6: "2001:db8::2"}
ROUTER = {4: "192.0.2.254", 6: "2001:db8::fe"}
TYPE = {4: 3, 6: 1}

both = pytest.mark.parametrize("version", [4, 6])


def message(version: int, code: int, kind: int | None = None) -> bytes:
    """As a raw socket gives it: of IPv4 with the IP header, whose source is the router."""
    quote = datagram_head((HERE[version], PORT), (PEER[version], PEER_PORT), b"")
    icmp = bytes((TYPE[version] if kind is None else kind, code)) + bytes(6) + quote
    if version == 6:
        return icmp
    header = bytearray(20)
    header[0] = 0x45
    header[12:16] = ip_address(ROUTER[4]).packed
    return bytes(header) + icmp


def read(version: int, packet: bytes) -> Unreachable | None:
    if version == 4:
        return unreachable.read_ipv4(packet)
    return unreachable.read_ipv6(packet, ROUTER[6] + "%eth0")


@pytest.mark.parametrize(
    ("version", "code", "reason", "what"),
    [
        (4, 0, Reason.UNREACHABLE, "network unreachable"),
        (4, 1, Reason.UNREACHABLE, "host unreachable"),
        (4, 3, Reason.PORT_CLOSED, "port unreachable"),
        (4, 13, Reason.PROHIBITED, "administratively prohibited"),
        (6, 0, Reason.UNREACHABLE, "network unreachable"),
        (6, 1, Reason.PROHIBITED, "administratively prohibited"),
        (6, 3, Reason.UNREACHABLE, "host unreachable"),
        (6, 4, Reason.PORT_CLOSED, "port unreachable"),
    ],
)
def test_it_says_what_did_not_arrive_where_and_which_host_says_so(
    version: int, code: int, reason: Reason, what: str
) -> None:
    found = read(version, message(version, code))
    assert found is not None
    assert (found.host, found.port) == (ip_address(PEER[version]), PEER_PORT)
    assert (found.reason, found.what) == (reason, what)
    assert str(found) == f"ICMP {what} from {ROUTER[version]}"


def test_the_server_itself_is_called_so() -> None:
    there = ip_address(PEER[4])
    said = Unreachable(there, 1, Reason.PORT_CLOSED, "port unreachable", there)
    assert str(said) == "ICMP port unreachable from the server"


@pytest.mark.parametrize(
    ("version", "code", "kind"),
    [(4, 4, None), (4, 0, 11), (4, 77, None), (6, 0, 2), (6, 77, None)],
)
def test_other_messages_are_none(version: int, code: int, kind: int | None) -> None:
    assert read(version, message(version, code, kind)) is None


@both
def test_whatever_is_cut_off_is_none(version: int) -> None:
    packet = message(version, 3)
    assert read(version, packet) is not None
    for length in range(len(packet)):
        assert read(version, packet[:length]) is None


@both
@given(packet=st.binary(max_size=200))
def test_any_bytes_are_read_without_a_fault(version: int, packet: bytes) -> None:
    read(version, packet)


def test_the_kernels_own_message_is_heard() -> None:
    """Of a closed port of this host, on IPv4 and IPv6."""
    if missing_capability():
        pytest.skip("raw sockets need CAP_NET_RAW")
    heard: list[Unreachable] = []

    async def claim(family: int, host: str) -> None:
        with (
            socket.socket(family, socket.SOCK_DGRAM) as ours,
            socket.socket(family, socket.SOCK_DGRAM) as closed,
        ):
            ours.bind((host, 0))
            closed.bind((host, 0))
            to = closed.getsockname()
            closed.close()
            listener = UnreachableListener([ours.getsockname()[1]], heard.append)
            ours.sendto(b"x", to)
            async with asyncio.timeout(5):
                while not heard:  # noqa: ASYNC110 (a list that grows)
                    await asyncio.sleep(0.01)
            listener.close()
            found = heard.pop()
            assert (found.host, found.port) == (ip_address(host), to[1])
            assert str(found) == "ICMP port unreachable from the server"

    asyncio.run(claim(socket.AF_INET, "127.0.0.1"))
    if socket.has_dualstack_ipv6():
        asyncio.run(claim(socket.AF_INET6, "::1"))


def test_the_filters_are_as_long_as_there_are_ports() -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        one, two = (program_of("unreachable", family, ports) for ports in ([1], [1, 2]))
        assert len(two) - len(one) == 8
