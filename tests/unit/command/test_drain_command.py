"""`fastun drain` says how the gateway has ended: by the drain, or by something else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fastun.command import drain
from fastun.errors import RuntimeFailure
from fastun.status.reply import DrainStatus

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """Drain a gateway that ends as soon as it is asked, with so many peers, before its time."""

    def begin(n_connected: int, left_s: float) -> None:
        now = DrainStatus(
            until_unix_seconds=time.time() + left_s,
            before=2,
            connected=n_connected,
            staying=0,
            unaware=0,
        )
        with subprocess.Popen([sys.executable, "-c", "pass"]) as gateway:
            status = SimpleNamespace(pid=gateway.pid, drain=now)
            monkeypatch.setattr(drain, "socket_of", lambda *_: Path("ft0.sock"))
            monkeypatch.setattr(drain.control, "drain", lambda *_: status)
            monkeypatch.setattr(drain.control, "request", lambda *_: status)
            drain.begin(None, Path(), 60, waits=True)

    return begin


def test_all_have_left(
    begin: Callable[[int, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(0, 50)
    assert capsys.readouterr().out.splitlines()[-1] == "ft0: drained"


def test_the_time_has_passed(
    begin: Callable[[int, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(2, 0.1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "ft0: drained; 2 peers were connected until the end"


def test_a_gateway_that_is_killed_meanwhile_was_not_drained(
    begin: Callable[[int, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeFailure, match="in the middle of its drain, with 2 peers connected"):
        begin(2, 50)
    assert ": drained" not in capsys.readouterr().out
