"""Questions to the kernel about routes: each answer belongs to its question."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from fastun.host.netlink.rtnetlink import RTN_LOCAL, RouteQuestions

RTN_BROADCAST = 3


def test_an_answer_to_an_earlier_question_is_not_taken_for_this_ones() -> None:
    with RouteQuestions() as questions:
        # Asked, and the answer never read: the limited broadcast address, with another kind of
        # route.
        body = struct.pack("=8BI", 2, 32, 0, 0, 0, 0, 0, 0, 0)
        body += struct.pack("=HH", 8, 1) + IPv4Address("255.255.255.255").packed
        header = struct.pack("=IHHII", 16 + len(body), 26, 1, 4711, 0)
        questions._socket.send(header + body)  # noqa: SLF001 (nothing else leaves one unread)
        assert questions.ask(IPv4Address("127.0.0.1")).kind == RTN_LOCAL
        assert questions.ask(IPv4Address("255.255.255.255")).kind == RTN_BROADCAST
