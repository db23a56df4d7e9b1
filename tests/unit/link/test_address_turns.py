"""One key on two hosts: noticed by addresses that take turns, not by a peer that moves."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.link import address_turns
from fastun.link.address_turns import PEERS_MAX, AddressTurns

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B, C = "192.0.2.1:1000", "192.0.2.2:2000", "[2001:db8::1]:3000"


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    log.configure("console", 0)
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(address_turns, "time", SimpleNamespace(monotonic=lambda: clock.s))
    yield clock
    structlog.reset_defaults()


def follow(turns: AddressTurns, *places: str, peer: str = "laptop") -> None:
    for before, after in pairwise(places):
        turns.note(peer, before, after)


@pytest.mark.parametrize(
    "places",
    [(A, B, A), (A, B, C, A), (A, B, C, B, C, A), (A, A, A, A), (A, B, B, B, A)],
    ids=["there-and-back", "three", "ends-elsewhere", "redialled", "home"],
)
def test_only_turns_between_two_addresses_are_suspected(
    capsys: pytest.CaptureFixture[str], places: tuple[str, ...]
) -> None:
    follow(AddressTurns(), *places)
    said = capsys.readouterr().err
    assert ("two hosts" in said) == (places == (A, B, C, B, C, A))


def test_two_addresses_in_turns_are_named_once_a_minute(
    now: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = AddressTurns()
    for _ in range(12):
        follow(turns, A, B, A)
        now.s += 6
    said = [line for line in capsys.readouterr().err.splitlines() if "two hosts" in line]
    assert len(said) == 2
    assert "warning" in said[0]
    assert "peer=laptop" in said[0]
    assert "192.0.2.1" in said[0]
    assert "192.0.2.2" in said[0]
    assert "in turns" in said[0]


def test_behind_one_address_it_is_the_links_that_end_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow(AddressTurns(), *["192.0.2.1:1", "192.0.2.1:2"] * 3)
    assert "again and again while it is connected" in capsys.readouterr().err


def test_turns_over_hours_are_a_traveller(
    now: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = AddressTurns()
    for places in ((A, B), (B, A)) * 5:
        follow(turns, *places)
        now.s += 1000
    assert "two hosts" not in capsys.readouterr().err


def test_peers_are_distinguished_and_the_longest_silent_is_forgotten(
    capsys: pytest.CaptureFixture[str],
) -> None:
    turns = AddressTurns()
    for n in range(PEERS_MAX + 1):
        follow(turns, A, B, A, peer=f"peer{n}")
    assert "two hosts" not in capsys.readouterr().err
    follow(turns, A, B, peer="peer0")
    assert "two hosts" not in capsys.readouterr().err
    follow(turns, A, B, peer=f"peer{PEERS_MAX}")
    assert "two hosts" in capsys.readouterr().err
