"""What the kernel refuses for a peer is said once, and that it takes it again."""

from __future__ import annotations

import errno
import os
import time

import pytest

from fastun import log
from fastun.link.kernel_refusals import QUIET_S, KernelRefusals
from fastun.native.loop import RefusalKind


def test_a_change_is_one_line_and_of_a_peer_not_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log.configure("console", 0)
    refusals = KernelRefusals()

    def lines(slot: int, kind: RefusalKind, error: str) -> list[str]:
        refusals.note(slot, f"peer{slot}", kind, error)
        return capsys.readouterr().err.splitlines()

    trains = RefusalKind.TRAINS
    (line,) = lines(1, trains, "Input/output error")
    assert "refuses UDP segmentation" in line
    assert "peer=peer1" in line
    assert "Input/output error" in line
    (line,) = lines(1, trains, "")
    assert "accepts UDP segmentation" in line
    assert lines(1, trains, "Input/output error") == []  # it comes and goes
    assert lines(1, trains, "") == []
    assert len(lines(1, RefusalKind.TCP_GROUPS, "Invalid argument")) == 1
    assert len(lines(2, trains, "Input/output error")) == 1
    (line,) = lines(2, RefusalKind.DATAGRAMS, "Operation not permitted")
    assert "refuses datagrams to this peer" in line
    assert "firewall" in line
    for slot, error in ((3, errno.ENETUNREACH), (4, errno.EHOSTUNREACH)):
        (line,) = lines(slot, RefusalKind.DATAGRAMS, os.strerror(error))
        assert "has no route to its address" in line
        assert "firewall" not in line
    now[0] += QUIET_S
    assert len(lines(1, trains, "Input/output error")) == 1
    assert len(lines(1, trains, "")) == 1
