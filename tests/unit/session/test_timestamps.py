"""The timestamps of our initiations, while the clock goes back and forth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.session import tai64n
from fastun.session.initiation_guard import InitiationGuard
from fastun.session.timestamps import RESERVED_NS, STEP_NS, Timestamps
from fastun.state_file import OwnFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = 10**9
NOW = 1_800_000_000 * S
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


class Clock:
    def __init__(self) -> None:
        self.ns = NOW

    def __call__(self) -> int:
        return self.ns


def kept(state: Path) -> int:
    (file,) = state.iterdir()
    return int(file.read_text())


def test_they_are_the_clocks_while_it_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    timestamps = Timestamps(OwnFiles(tmp_path), KEY, clock)
    for _ in range(5):
        assert timestamps.next() == tai64n.from_unix_ns(clock.ns)
        clock.ns += 5 * S


@pytest.mark.parametrize("back_s", [0, 1, 3600, 10**9])
def test_a_clock_that_is_set_back_is_passed_over(back_s: int) -> None:
    clock = Clock()
    timestamps, guard = Timestamps(now_ns=clock), InitiationGuard()
    for i in range(200):
        guard.admit(timestamps.next(), now_s=i)
        clock.ns += 7
        if i == 100:
            clock.ns -= back_s * S


def test_they_grow_by_what_is_left_after_whitening() -> None:
    clock = Clock()
    timestamps = Timestamps(now_ns=clock)
    many = [timestamps.next() for _ in range(1000)]  # some 17 s of steps, over seconds' ends
    assert many == sorted(set(many))
    assert many[-1] == tai64n.from_unix_ns(NOW + 999 * STEP_NS)


@pytest.mark.parametrize("back_s", [0, 3600])
def test_a_restart_goes_on_where_the_last_run_was(tmp_path: Path, back_s: int) -> None:
    clock, guard = Clock(), InitiationGuard()
    for i in range(100):
        timestamps = Timestamps(OwnFiles(tmp_path), KEY, clock)
        guard.admit(timestamps.next(), now_s=2 * i)
        guard.admit(timestamps.next(), now_s=2 * i + 1)
        clock.ns += S
        if i == 50:
            clock.ns -= back_s * S


def test_what_is_kept_does_not_run_away_from_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(1000):  # a service that fails once a second
        clock.ns += S
        Timestamps(OwnFiles(tmp_path), KEY, clock).next()
    assert kept(tmp_path) - clock.ns <= 1000 * STEP_NS + 2 * RESERVED_NS
    clock.ns += 30 * S
    assert Timestamps(OwnFiles(tmp_path), KEY, clock).next() == tai64n.from_unix_ns(clock.ns)


def test_the_file_is_written_once_a_second_at_most_and_before_its_time_is_used(
    tmp_path: Path,
) -> None:
    clock = Clock()
    timestamps = Timestamps(OwnFiles(tmp_path), KEY, clock)
    written = set()
    for _ in range(100):
        used = timestamps.next()
        assert tai64n.from_unix_ns(kept(tmp_path)) >= used
        written.add(kept(tmp_path))
        clock.ns += S // 20
    assert len(written) <= 6
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_each_key_has_its_own(tmp_path: Path) -> None:
    clock = Clock()
    clock.ns += 3600 * S
    Timestamps(OwnFiles(tmp_path), KEY, clock).next()
    clock.ns -= 3600 * S
    assert Timestamps(OwnFiles(tmp_path), bytes(32), clock).next() == tai64n.from_unix_ns(NOW)


@pytest.mark.parametrize("text", ["", "x", "-5", "1" * 30, "9" * 19, "\u0661", "1\n2"])
def test_a_damaged_file_is_a_warning_and_nothing_more(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    Timestamps(OwnFiles(tmp_path), KEY, clock).next()
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert Timestamps(OwnFiles(tmp_path), KEY, clock).next() == tai64n.from_unix_ns(NOW)
    assert "damaged" in capsys.readouterr().err
    assert kept(tmp_path) == NOW + RESERVED_NS


def test_a_state_directory_that_cannot_be_written_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    clock = Clock()
    timestamps = Timestamps(OwnFiles(tmp_path / "file"), KEY, clock)
    for _ in range(3):
        assert timestamps.next() == tai64n.from_unix_ns(clock.ns)
        clock.ns += 5 * S
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning" in line
    assert "cannot save the time of the last handshake" in line


def test_a_file_that_would_never_end_does_not_hold_up_the_start(tmp_path: Path) -> None:
    clock = Clock()
    Timestamps(OwnFiles(tmp_path), KEY, clock).next()
    (file,) = tmp_path.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert Timestamps(OwnFiles(tmp_path), KEY, clock).next() == tai64n.from_unix_ns(NOW)
