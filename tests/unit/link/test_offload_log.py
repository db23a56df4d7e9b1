"""What the kernel refuses for a peer is said once, and that it takes it again."""

from __future__ import annotations

import time

import pytest

from fastun import log
from fastun.link.offload_log import QUIET_S, OffloadLog
from fastun.native.loop import OffloadKind


def test_a_change_is_one_line_and_of_a_peer_not_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log.configure("console", 0)
    offloads = OffloadLog()

    def lines(slot: int, kind: OffloadKind, error: str) -> list[str]:
        offloads.note(slot, f"peer{slot}", kind, error)
        return capsys.readouterr().err.splitlines()

    trains = OffloadKind.TRAINS
    (line,) = lines(1, trains, "Input/output error")
    assert "refuses UDP segmentation" in line
    assert "peer=peer1" in line
    assert "Input/output error" in line
    (line,) = lines(1, trains, "")
    assert "accepts UDP segmentation" in line
    assert lines(1, trains, "Input/output error") == []  # it comes and goes
    assert lines(1, trains, "") == []
    assert len(lines(1, OffloadKind.TCP_GROUPS, "Invalid argument")) == 1
    assert len(lines(2, trains, "Input/output error")) == 1
    now[0] += QUIET_S
    assert len(lines(1, trains, "Input/output error")) == 1
    assert len(lines(1, trains, "")) == 1
