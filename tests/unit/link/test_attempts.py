"""What is said of attempts to connect: when, how often, and why that may be (attempts.py)."""

from __future__ import annotations

import errno
import re
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import log
from fastun.link import attempts as attempts_module
from fastun.link.attempts import (
    ANSWERED_S,
    FORGOTTEN_S,
    REPEAT_FIRST_S,
    REPEAT_MAX_S,
    SILENT_S,
    WAYS_MAX,
    Attempts,
    Way,
    named,
)
from fastun.link.hello import HelloError, HungUpError
from fastun.link.last_error import Reason
from fastun.link.likely import ORDER, causes, of_error
from fastun.link.peer_slots import SlottedPeer
from fastun.peers.peer import Peer
from fastun.session.refusal import HandshakeError, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.link.table import Link

HERE = ip_address("192.0.2.7")
UDP = Way("udp", HERE, 51820, "vpn.example.net")
TCP = Way("tcp", HERE, 55555)
RETRY_S = 5.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    time = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(attempts_module.clock, "boottime_s", lambda: time.s)
    log.configure("console", 0)
    yield time
    structlog.reset_defaults()


class Client:
    """One peer that is tried, and what is logged of it."""

    def __init__(self, now: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
        self.links: dict[int, Link] = {}
        self.attempts = Attempts(self.links, lambda *_: "via eth0", own_key="Abcdefgh")
        self.server = SlottedPeer(0, Peer(name="server", public_key=bytes(32)))
        self.now, self._capsys = now, capsys

    def pass_time(self, seconds: float, *ways: Way) -> list[str]:
        """Try by these ways every five seconds; return what is logged, with when."""
        said, start_s = [], self.now.s
        while self.now.s < start_s + seconds:
            for way in ways:
                self.attempts.tried(self.server, way)
            for _ in range(int(RETRY_S)):
                self.now.s += 1
                self.attempts.tick()
                said += [
                    f"{self.now.s - start_s:g}: {line}"
                    for line in self._capsys.readouterr().err.splitlines()
                ]
        return said


@pytest.fixture
def client(now: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(now, capsys)


def times(said: list[str]) -> list[float]:
    return [float(line.partition(":")[0]) for line in said]


def test_silence_is_explained_within_20_s_and_then_at_growing_intervals(client: Client) -> None:
    said = client.pass_time(3600, UDP)
    first, *later = times(said)
    assert first == SILENT_S
    gaps = [after - before for before, after in zip([first, *later], later, strict=False)]
    assert gaps == [min(REPEAT_FIRST_S * 2**n, REPEAT_MAX_S) for n in range(6)]
    assert "for_s=2832" in said[-1], "seven lines in an hour"


def test_the_line_says_what_was_tried_what_came_back_and_why_that_may_be(client: Client) -> None:
    (line,) = client.pass_time(SILENT_S, UDP)
    for part in (
        "cannot connect",
        "peer=server",
        "for_s=12",
        "udp vpn.example.net 192.0.2.7:51820 via eth0",
        "came_back=nothing",
        "key (ours: Abcdefgh)",
        "clock set back",
    ):
        assert part in line
    assert len(line) < 240


def test_where_something_came_back_the_warning_comes_sooner(client: Client) -> None:
    client.attempts.tried(client.server, UDP)
    client.attempts.unreachable(HERE, 51820, Reason.PORT_CLOSED, "ICMP port unreachable from X")
    client.attempts.unreachable(HERE, 51821, Reason.PROHIBITED, "about another port")
    (line,) = client.pass_time(SILENT_S, UDP)
    assert times([line]) == [ANSWERED_S]
    assert "came_back='ICMP port unreachable from X'" in line
    assert client.server.errors.counts[Reason.PORT_CLOSED] == 1
    assert Reason.PROHIBITED not in client.server.errors.counts


def test_both_transports_are_one_line_and_the_one_that_says_more_decides(client: Client) -> None:
    client.attempts.tried(client.server, UDP)
    client.attempts.failed(client.server, TCP, ConnectionRefusedError(errno.ECONNREFUSED, "x"))
    (line,) = client.pass_time(ANSWERED_S, UDP)
    assert "udp: nothing" in line
    assert "tcp: connection refused" in line
    assert "tried='tcp 192.0.2.7:55555 via eth0, udp 51820'" in line
    assert "server not running" in line


def test_a_cookie_and_a_response_that_does_not_open_are_of_the_last_datagram(
    client: Client,
) -> None:
    client.attempts.came_back(0, Reason.COOKIE_ONLY)  # nothing was tried
    client.attempts.tried(client.server, UDP)
    client.attempts.came_back(0, Reason.COOKIE_ONLY)
    client.attempts.came_back(0, *of_error(HandshakeError(Refusal.BAD_PSK_OR_KEY)))
    (line,) = client.pass_time(ANSWERED_S, UDP)
    assert "a response that does not open" in line
    assert "our pre-shared key differs" in line
    assert client.server.errors.counts == {Reason.COOKIE_ONLY: 1, Reason.NOT_OPENED: 1}


def test_success_forgets_and_the_other_transport_goes_on(client: Client) -> None:
    client.pass_time(RETRY_S * 2, UDP)
    assert client.server.errors.last is not None
    client.attempts.succeeded(0, "udp")
    assert client.server.errors.last is None
    assert client.server.errors.counts[Reason.NO_ANSWER] == 1
    assert client.pass_time(2 * SILENT_S) == []
    client.links[0] = link("tcp")
    said = client.pass_time(200, UDP)
    assert len(said) == 1
    assert "UDP does not get through; the link is on TCP" in said[0]
    assert "warning" not in said[0]
    assert client.server.errors.last is None, "it is connected"


def test_a_link_that_is_there_and_silent_is_not_called_missing(client: Client) -> None:
    client.links[0] = link("udp")
    (line,) = client.pass_time(SILENT_S, UDP)
    assert "the peer does not answer any more" in line
    last = client.server.errors.last
    assert last is not None, "status says so, too, while the old session is still there"
    assert last.text == "the peer does not answer any more: udp 192.0.2.7:51820: nothing"
    client.pass_time(FORGOTTEN_S + RETRY_S)
    assert client.server.errors.last is None, "it was heard again"


def link(transport: str) -> Any:
    return SimpleNamespace(transport=transport)


def test_attempts_that_have_ended_are_not_spoken_of(client: Client) -> None:
    client.pass_time(RETRY_S, UDP)
    client.attempts.forget(0)
    assert client.pass_time(2 * SILENT_S) == []
    client.pass_time(SILENT_S, UDP)
    client.pass_time(FORGOTTEN_S + RETRY_S)
    client.attempts.tried(client.server, UDP)
    assert client.pass_time(SILENT_S - RETRY_S) == [], "it begins anew"


def test_any_number_of_addresses_is_a_bounded_line(client: Client) -> None:
    ways = [Way("udp", ip_address(f"192.0.2.{n}"), 1) for n in range(3 * WAYS_MAX)]
    (line,) = client.pass_time(SILENT_S, *ways)
    assert f"; {WAYS_MAX - 1} more" in line
    assert len(line) < 240


def test_a_name_without_an_address_is_the_last_error(client: Client) -> None:
    client.attempts.unresolved(client.server, "no answer from DNS")
    assert client.server.errors.last is not None
    assert client.server.errors.last.reason is Reason.NAME
    assert "no answer from DNS" in client.server.errors.last.text


ERRORS = [
    (TimeoutError(), False, Reason.NO_ANSWER),
    (TimeoutError(), True, Reason.CLOSED),
    (TimeoutError(), False, Reason.NO_ANSWER),
    (OSError(errno.ETIMEDOUT, "x"), False, Reason.NO_ANSWER),
    (OSError(errno.ECONNREFUSED, "x"), False, Reason.PORT_CLOSED),
    (OSError(errno.ECONNRESET, "x"), True, Reason.CLOSED),
    (HungUpError("the server closed"), True, Reason.CLOSED),
    (OSError(errno.EHOSTUNREACH, "x"), False, Reason.UNREACHABLE),
    (OSError(errno.ENETUNREACH, "x"), False, Reason.NO_ROUTE),
    (OSError(errno.EPERM, "x"), False, Reason.BLOCKED_HERE),
    (HandshakeError(Refusal.BAD_PSK_OR_KEY), True, Reason.NOT_OPENED),
    (HandshakeError(Refusal.BAD_MAC1), True, Reason.OTHER),
    (HelloError("another version"), True, Reason.OTHER),
]


@pytest.mark.parametrize(("error", "is_connected", "reason"), ERRORS)
def test_each_error_has_its_reason_and_says_something(
    error: BaseException, is_connected: bool, reason: Reason
) -> None:
    found, text = of_error(error, is_connected=is_connected)
    assert found is reason
    assert text


def test_every_reason_of_an_attempt_has_causes_of_its_own() -> None:
    texts = {causes(reason, scheme, "K") for reason in ORDER for scheme in ("udp", "tcp")}
    assert len(texts) == len(ORDER) + 1, "of silence on UDP and on TCP there are two"
    assert all(re.fullmatch(r"[^{}]{10,140}", text) for text in texts)


def test_an_address_that_was_written_has_no_name() -> None:
    assert named(HERE, "192.0.2.7") == ""
    assert named(HERE, "vpn.example.net") == "vpn.example.net"
    assert named(ip_address("fe80::1"), "fe80::1%eth0") == ""
