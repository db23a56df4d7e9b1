"""What a responder says of handshakes that it refuses (refusals.py), and how often."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from fastun import log
from fastun.link import refusals as refusals_module
from fastun.link.key_exchange import KeyExchange
from fastun.link.last_error import Reason
from fastun.link.refusals import OVERTAKEN_S, UNCONFIRMED_MAX, fingerprint
from fastun.log import limits
from fastun.session import clock, keys, noise, tai64n
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.parties import CLIENT, SERVER
from tests.support.stream_handshake import HELLO, peer, peer_slots_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lane.lane import Lane
    from fastun.session.keys import KeyPair

REMOTE = "192.0.2.9:4711"
UNKNOWN = "no peer here has this public key"


class Time:
    """All clocks, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 1000.0
        monkeypatch.setattr(clock, "boottime_s", lambda: self.s)
        monkeypatch.setattr(refusals_module.time, "monotonic", lambda: self.s)
        monkeypatch.setattr(log, "LineLimits", lambda: limits.LineLimits(lambda: self.s))


class Server:
    """A responder with one peer, ``ant``, and what it logs."""

    def __init__(self, now: Time, capsys: pytest.CaptureFixture[str]) -> None:
        self.exchange = KeyExchange(peer_slots_of(peer("ant", CLIENT)), SERVER, lambda _: HELLO)
        self.ant = self.exchange.peer_slots.by_slot[0]
        self.now, self._capsys = now, capsys

    def hear(self, own: KeyPair = CLIENT, remote: str = REMOTE, ahead_s: float = 0.0) -> str:
        """Take an initiation and answer it; return what is logged."""
        then = tai64n.from_unix_ns(int((time.time() + ahead_s) * 1e9))
        initiation, _ = noise.initiate(own, SERVER.public, timestamp=then)
        with contextlib.suppress(HandshakeError):
            slotted, consumed = self.exchange.admit(initiation, remote)
            self.exchange.respond(slotted, consumed, remote=remote)
        return self.said()

    def said(self) -> str:
        return self._capsys.readouterr().err


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Server]:
    now = Time(monkeypatch)
    log.configure("console", 0)
    yield Server(now, capsys)
    structlog.reset_defaults()


def test_an_unknown_key_is_named_by_its_first_letters_once_a_minute_and_source(
    server: Server,
) -> None:
    stranger = keys.pair_of(keys.generate_private())
    line = server.hear(stranger)
    assert UNKNOWN in line
    assert f"key={keys.format_key(stranger.public)[:8]}" in line.replace("'", "")
    assert REMOTE in line
    assert keys.format_key(stranger.public) not in line
    server.now.s += 5
    assert server.hear(stranger) == ""
    assert UNKNOWN in server.hear(stranger, remote="192.0.2.10:4711")
    server.now.s += 60
    assert UNKNOWN in server.hear(stranger)


def test_three_causes_are_three_lines(server: Server) -> None:
    server.hear()
    server.now.s += 1
    said = [
        server.hear(keys.pair_of(keys.generate_private())),
        server.hear(ahead_s=-3600),
        *(server.hear(ahead_s=n + 1) for n in range(UNCONFIRMED_MAX) if not step(server)),
    ]
    lines = [line.split("  ")[0] for line in said if line]
    assert len(set(lines)) == len(lines) == 3


def step(server: Server) -> None:
    server.now.s += 1


def test_a_clock_that_was_set_back_is_named_with_how_far(server: Server) -> None:
    assert server.hear() == ""
    server.now.s += 5
    line = server.hear(ahead_s=-3600)
    assert "peer=ant" in line
    assert "behind_s=3600" in line
    assert "its_clock=20" in line
    assert server.ant.errors.last is not None
    assert server.ant.errors.last.reason is Reason.OLD_TIMESTAMP
    assert server.hear(ahead_s=-3600) == "", "once a minute"
    server.now.s += 61
    assert "behind_s=3600" in server.hear(ahead_s=-3600)


def test_a_clock_that_was_ahead_and_is_right_is_named_with_the_command_that_helps(
    server: Server,
) -> None:
    assert server.hear(ahead_s=10**8) == ""
    server.now.s += 5
    server.hear()
    assert server.ant.errors.last is not None
    text = server.ant.errors.last.text
    assert "s ahead at its last handshake; 'peer set --reset-timestamp' in a fleet" in text
    assert text.endswith("lets it in")


@pytest.mark.parametrize(
    "stamp",
    [b"\xff" * 11 + b"\xfe", b"\xf0" * 12, bytes(11) + b"\1", b"\x40" + bytes(11), b"\x7f" * 12],
)
def test_a_time_that_is_in_no_calendar_is_refused_like_any_that_is_old(
    server: Server, stamp: bytes
) -> None:
    initiations = [
        noise.initiate(CLIENT, SERVER.public, timestamp=then)[0] for then in (b"\xff" * 12, stamp)
    ]
    server.exchange.admit(initiations[0], REMOTE)
    with pytest.raises(HandshakeError) as refused:
        server.exchange.admit(initiations[1], REMOTE)
    assert refused.value.reason is Refusal.REPLAYED_TIMESTAMP
    if stamp < b"\xff" * 8:
        assert server.ant.errors.last is not None
        assert server.ant.errors.last.reason is Reason.OLD_TIMESTAMP


def test_one_that_was_overtaken_or_copied_on_the_way_is_ordinary(server: Server) -> None:
    server.hear()
    server.now.s += 5
    assert server.hear(ahead_s=-OVERTAKEN_S / 2) == ""
    assert server.ant.errors.last is None
    assert server.exchange.results[Refusal.REPLAYED_TIMESTAMP] == 1


def test_a_peer_that_never_confirms_is_named_after_three_responses(server: Server) -> None:
    said = []
    for n in range(UNCONFIRMED_MAX + 2):
        said.append(server.hear(ahead_s=n))
        server.now.s += 5
    assert [bool(line) for line in said] == [False] * UNCONFIRMED_MAX + [True, False]
    assert "does not confirm our responses" in said[UNCONFIRMED_MAX]
    assert server.ant.errors.last is not None
    assert server.ant.errors.last.reason is Reason.NOT_CONFIRMED
    server.exchange.succeeded(server.ant)
    assert server.ant.errors.last is None
    server.now.s += 100
    assert server.hear(ahead_s=100) == "", "it counts from the success on"


def test_a_damaged_handshake_is_said_and_one_for_another_key_is_only_counted(
    server: Server,
) -> None:
    initiation, _ = noise.initiate(CLIENT, keys.pair_of(keys.generate_private()).public)
    with pytest.raises(HandshakeError):
        server.exchange.admit(initiation, REMOTE)
    assert server.said() == ""
    assert server.exchange.results[Refusal.BAD_MAC1] == 1
    server.exchange.refusals.refused(Refusal.BAD_STATIC, REMOTE, None, None)
    assert "damaged or forged" in server.said()


def test_where_all_slots_are_taken_that_is_said(server: Server) -> None:
    initiation, _ = noise.initiate(CLIENT, SERVER.public)
    consumed = noise.consume_initiation(SERVER, initiation)
    server.exchange.refusals.refused(Refusal.NO_SLOT, REMOTE, consumed, server.ant)
    assert "as many peers are connected as one server can have" in server.said()
    assert server.ant.errors.last is not None
    assert server.ant.errors.last.reason is Reason.NO_SLOT


def test_every_reason_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    section = page.partition("## Reasons why a peer cannot connect")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert sorted(documented) == sorted(Reason)


def test_handshakes_for_another_key_are_one_line_with_their_number(server: Server) -> None:
    drop = SimpleNamespace(reason="bad_mac1")
    other = SimpleNamespace(reason="bad_tag")
    counted = {"n": 0}
    stats = SimpleNamespace(drops=lambda: [(drop, counted["n"]), (other, 99)])
    lane = cast("Lane", SimpleNamespace(stats=stats))
    server.exchange.watch(lane)
    assert server.said() == ""
    counted["n"] = 7
    server.exchange.results[Refusal.BAD_MAC1] = 2
    server.exchange.watch(lane)
    assert server.said() == "", "not at once: a burst is one line"
    server.now.s += 10
    server.exchange.watch(lane)
    line = server.said()
    assert "handshakes=9" in line
    assert f"our_key={fingerprint(SERVER.public)}" in line.replace("'", "")
    server.now.s += 10
    server.exchange.watch(lane)
    assert server.said() == ""


def test_strangers_from_everywhere_cause_ten_lines_a_minute_and_bounded_memory() -> None:
    now = {"s": 1000.0}
    held = limits.LineLimits(lambda: now["s"])
    n_lines = 0
    n_sources = 2 * limits.SOURCES_MAX
    for n in range(n_sources):
        remote = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:1"
        now["s"] = 1000 + 60 * n / n_sources
        event = {"component": "handshake", "event": UNKNOWN, "remote": remote}
        try:
            held(None, "warning", event)
            n_lines += 1
        except structlog.DropEvent:
            pass
    assert n_lines <= 10
    buckets = vars(held)
    assert len(buckets["_of_strangers"]) == limits.SOURCES_MAX
    assert held.due() == [], "what was held back is said once a minute"
    now["s"] += 60
    ((_, said),) = held.due()
    assert said["more_like_it"] == n_sources - n_lines - 1
