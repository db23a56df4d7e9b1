"""What the kernel answers and reports.

It is trusted with what it says. Still a newer one may say it in another form: that raises an error,
and holds no reader for ever.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any, cast

from fastun.host import bridge_mtu
from fastun.host.firewall import kill_switch_found, local_networks
from fastun.host.netlink import half_open, kernel, rtnetlink
from fastun.host.netlink.kernel import Kernel
from fastun.host.netlink.netlink import Netlink, _answers
from fastun.host.netlink.notices import Filter, reports
from fastun.link.stream import silence
from tests.fuzz.target import Source, replaced, target

_FAULTS = (OSError, OverflowError, ValueError, KeyError, IndexError, struct.error)
_HEADER = struct.Struct("=IHHII")


class _Kernel:
    """A socket that gives the same answer once, and then nothing."""

    def __init__(self, answer: bytes) -> None:
        self._answers = [answer]

    def send(self, _: bytes) -> None:
        """Nothing is asked."""

    def recv(self, *_: int) -> bytes:
        if not self._answers:
            raise BlockingIOError
        return self._answers.pop()


def _messages(data: bytes) -> bytes:
    """One datagram: messages whose lengths are right, or any bytes."""
    source = Source(data)
    if source.byte() % 4 == 0:
        return source.rest()
    made = b""
    while not source.is_empty:
        kind, n = source.byte(), source.byte()
        body = source.bytes(n)
        made += _HEADER.pack(_HEADER.size + n, kind, 0, 1, 0) + body + bytes(-n % 4)
    return made


def _netlink(data: bytes) -> Netlink:
    made = object.__new__(Netlink)
    made._sequence = 0
    made._socket = cast("Any", _Kernel(_messages(data)))
    return made


@target
def netlink_dump(data: bytes) -> None:
    """A dump ends with the answer, and each of its messages is read or refused."""
    bodies: list[bytes] = []
    with contextlib.suppress(*_FAULTS):
        bodies = _netlink(data).dump(18, b"")
    for body in (*bodies, data):
        for read in (kernel._address, kernel._route, bridge_mtu._interface):
            with contextlib.suppress(*_FAULTS):
                read(body)
        with contextlib.suppress(*_FAULTS):
            list(half_open._sources([body], {80}))


@target
def netlink_links(data: bytes) -> None:
    """What asks for links and tables finds some, or says that it cannot."""
    asked = object.__new__(Kernel)
    asked._index, asked._netlink = 1, _netlink(data)
    with contextlib.suppress(*_FAULTS):
        asked.link()

    class Opened:
        def __init__(self, _: int = 0) -> None: ...

        def __enter__(self) -> Netlink:
            return _netlink(data)

        def __exit__(self, *_: object) -> None: ...

    with replaced(Opened, (local_networks, "Netlink"), (kill_switch_found, "Netlink")):
        for ask in (local_networks._links, kill_switch_found.interfaces):
            with contextlib.suppress(*_FAULTS):
                ask()


@target
def netlink_acknowledgement(data: bytes) -> None:
    """Each answer to a change is read once."""
    with contextlib.suppress(*_FAULTS):
        for _, fault in _answers(_messages(data)):
            assert isinstance(str(fault), str)


@target
def netlink_notice(data: bytes) -> None:
    """Each report of one datagram concerns the tunnel or not."""
    of_ours = Filter(1, lambda: {"fastun_ft0"}, tuple)
    for is_nft in (False, True):
        for n, report in enumerate(reports(_messages(data), is_nft=is_nft)):
            assert n <= len(data)
            with contextlib.suppress(*_FAULTS):
                of_ours.concern(report)


@target
def route_answer(data: bytes) -> None:
    """A route or an error; its attributes come to an end."""
    with contextlib.suppress(*_FAULTS):
        source = Source(data)
        route = rtnetlink._route(source.byte(), source.rest())
        assert len(route.interfaces()) <= len(data)
    questions = object.__new__(rtnetlink.RouteQuestions)
    questions._sequence, questions._socket = 0, cast("Any", _Kernel(data))
    with contextlib.suppress(*_FAULTS):
        questions._exchange(b"")


@target
def socket_state(data: bytes) -> None:
    """TCP_INFO of any length, as kernels have it."""

    class Connection:
        def getsockopt(self, *_: int) -> bytes:
            return data

    with contextlib.suppress(struct.error):
        assert silence.is_silent(cast("socket.socket", Connection())) in (False, True)
