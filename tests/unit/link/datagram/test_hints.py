"""Hints of routers: what of a message is read, and what the filter in the kernel lets through."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.host.sockets.icmp_filter import attach_filter, program_of
from fastun.host.sockets.maker import OwnSockets
from fastun.link.datagram import hints
from fastun.link.datagram.hints import Hint, HintListener
from tests.support.forged_icmp import data_head, datagram_head, too_big

PORT, PEER_PORT = 51820, 4711
HERE = {4: "192.0.2.1", 6: "2001:db8::1"}
PEER = {4: "192.0.2.2", 6: "2001:db8::2"}
OUTER = bytes([0x46]) + bytes(23)  # an IPv4 header with an option
DATA = data_head(0xABCD, 2**40)


def message(version: int, mtu: int = 1400, payload: bytes = DATA, port: int = PORT) -> bytes:
    """As a raw socket gives it: of IPv4 with the IP header."""
    quote = datagram_head((HERE[version], port), (PEER[version], PEER_PORT), payload)
    return (OUTER if version == 4 else b"") + too_big(quote, mtu)


def read(version: int, packet: bytes) -> Hint | None:
    return hints.read_ipv4(packet) if version == 4 else hints.read_ipv6(packet)


both = pytest.mark.parametrize("version", [4, 6])


@both
def test_a_hint_names_the_peer_and_the_message_that_was_too_long(version: int) -> None:
    peer = ip_address(PEER[version])
    assert read(version, message(version)) == Hint(1400, 1500, peer, PEER_PORT, 0xABCD, 2**40)


@both
@pytest.mark.parametrize("payload", [b"", DATA[:14], b"\1" + DATA[1:], b"\3" + DATA[1:]])
def test_what_quotes_no_whole_data_message_names_none(version: int, payload: bytes) -> None:
    hint = read(version, message(version, payload=payload))
    assert hint is not None
    assert (hint.index, hint.counter) == (None, None)


@both
def test_what_would_have_fitted_is_not_a_hint(version: int) -> None:
    assert read(version, message(version, mtu=1500)) is None
    assert read(version, message(version, mtu=1499)) is not None


# Where a byte must be what it is: of the message, and of the packet that it quotes.
OTHERS = [
    pytest.param(4, 24, 11, id="another type"),
    pytest.param(4, 25, 3, id="another code"),
    pytest.param(4, 32, 0x46, id="IP options"),
    pytest.param(4, 32 + 9, 6, id="TCP"),
    pytest.param(4, 32 + 7, 1, id="a later fragment"),
    pytest.param(6, 0, 3, id="another type of IPv6"),
    pytest.param(6, 8 + 6, 6, id="TCP in IPv6"),
]


@pytest.mark.parametrize(("version", "place", "value"), OTHERS)
def test_what_is_about_something_else_is_not_a_hint(version: int, place: int, value: int) -> None:
    packet = bytearray(message(version))
    packet[place] = value
    assert read(version, bytes(packet)) is None


@both
def test_whatever_is_cut_off_is_read_without_a_fault(version: int) -> None:
    packet = message(version)
    least = len(packet) - len(DATA)
    for length in range(len(packet) + 1):
        assert (read(version, packet[:length]) is not None) == (length >= least)


@both
@given(packet=st.binary(max_size=200))
def test_any_bytes_are_read_without_a_fault(version: int, packet: bytes) -> None:
    read(version, packet)


# -- in the kernel ----------------------------------------------------------------------------


def passes(program: bytes, packet: bytes) -> bool:
    """Whether a program lets bytes through, tried on a pair of sockets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        attach_filter(theirs, program)
        theirs.setblocking(False)
        try:
            ours.send(packet)
            return theirs.recv(2000) == packet
        except OSError:
            return False


FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def program(version: int, ports: list[int]) -> bytes:
    return program_of("hints", FAMILIES[version], ports)


@both
def test_the_filter_passes_what_is_about_our_ports(version: int) -> None:
    for ports in ([PORT], [1, PORT], list(range(PORT - 15, PORT + 1))):
        assert passes(program(version, ports), message(version))
        assert not passes(program(version, ports), message(version, port=PORT + 1))
    assert not passes(program(version, [PORT]), message(version)[:40])


@pytest.mark.parametrize(
    ("version", "place", "value"), [case for case in OTHERS if case.id != "a later fragment"]
)
def test_the_filter_passes_nothing_else(version: int, place: int, value: int) -> None:
    packet = bytearray(message(version))
    packet[place] = value
    assert not passes(program(version, [PORT]), bytes(packet))


# -- hearing ----------------------------------------------------------------------------------


class Heard(OwnSockets):
    """Raw sockets that a test fills: each is one end of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.theirs: dict[int, socket.socket] = {}
        self.refusal: OSError | None = None

    def icmp(self, _: str, family: int, ports: list[int]) -> socket.socket:
        assert ports == [PORT]
        if self.refusal is not None:
            raise self.refusal
        ours, self.theirs[family] = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        return ours


def test_what_is_heard_at_once_is_bounded_and_the_rest_comes_later() -> None:
    heard = Heard()
    came: list[Hint] = []
    n_at_once = 5  # a pair of sockets holds few more

    async def claim() -> None:
        listener = HintListener([PORT], came.append, heard)
        assert listener.is_allowed
        for _ in range(n_at_once):
            heard.theirs[socket.AF_INET].send(message(4))
        heard.theirs[socket.AF_INET6].send(message(6))
        await asyncio.sleep(hints.TURN_S / 3)
        assert len(came) == n_at_once + 1
        heard.theirs[socket.AF_INET].send(message(4))
        await asyncio.sleep(hints.TURN_S / 3)
        assert len(came) == n_at_once + 1, "the next turn is not yet"
        await asyncio.sleep(hints.TURN_S)
        assert len(came) == n_at_once + 2
        listener.close()
        await asyncio.sleep(2 * hints.TURN_S)

    asyncio.run(claim())


def test_a_turn_takes_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(hints, "HINTS_PER_TURN", 3)
    came: list[Hint] = []

    async def claim() -> None:
        listener = HintListener([PORT], came.append, heard)
        for _ in range(8):
            heard.theirs[socket.AF_INET].send(message(4))
        await asyncio.sleep(hints.TURN_S / 3)
        assert len(came) == 3
        listener.close()

    asyncio.run(claim())


@pytest.mark.parametrize(("number", "is_allowed"), [(1, False), (13, False), (97, True)])
def test_without_the_right_to_listen_it_says_so(number: int, is_allowed: bool) -> None:
    heard = Heard()
    heard.refusal = OSError(number, "refused")

    async def claim() -> None:
        assert HintListener([PORT], lambda _: None, heard).is_allowed == is_allowed

    asyncio.run(claim())
