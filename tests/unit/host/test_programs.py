"""The host's programs: none of them can hold fastun up, and no terminal can cut them short."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun import ending
from fastun.host import programs
from fastun.host.programs import ProgramKilled, ProgramRefused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    return asked


def sh(script: str, stdin: str = "", *, limit_s: float = 10, is_undo: bool = False) -> None:
    programs.run(("sh", "-c", script), stdin, limit_s=limit_s, is_undo=is_undo)


def test_a_program_reads_what_it_is_given(tmp_path: Path) -> None:
    sh(f"cat > {tmp_path}/out", "nameserver 10.9.0.1\n" * 10_000)
    assert (tmp_path / "out").read_text() == "nameserver 10.9.0.1\n" * 10_000


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo first; echo last >&2; exit 3", "sh: last"),
        ("exit 3", "sh: exit code 3"),
        ("kill -9 $$", "sh: exit code -9"),
    ],
)
def test_a_refusal_is_its_last_line(script: str, why: str) -> None:
    with pytest.raises(ProgramRefused) as caught:
        sh(script)
    assert str(caught.value) == why


def test_a_program_that_is_missing_is_a_refusal() -> None:
    with pytest.raises(ProgramRefused, match="no-such-program: No such file"):
        programs.run(("no-such-program",), limit_s=1)


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ProgramKilled, match="sh: not finished within 0"):
        sh(f"sleep 60 & echo $! > {tmp_path}/pid; wait", limit_s=0.3)
    assert time.monotonic() - begun < 5
    assert is_gone(int((tmp_path / "pid").read_text()))


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]  # noqa: PTH123, SIM115
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_daemon_that_it_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    begun = time.monotonic()
    sh(f"sleep 20 & echo $! > {tmp_path}/pid")
    assert time.monotonic() - begun < 5
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    os.kill(pid, 9)


@pytest.mark.parametrize("is_undo", [False, True])
def test_the_end_cuts_short_what_changes_and_not_what_undoes(*, is_undo: bool) -> None:
    threading.Timer(0.1, ending.ask, ["SIGTERM"]).start()
    begun = time.monotonic()
    if is_undo:
        sh("sleep 0.5", is_undo=True)
    else:
        with pytest.raises(ProgramKilled, match="fastun is stopping"):
            sh("sleep 20")
    assert time.monotonic() - begun < 5


def test_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    sh(f"cut -d ' ' -f 6 /proc/$$/stat > {tmp_path}/session")
    assert int((tmp_path / "session").read_text()) != os.getsid(0)
