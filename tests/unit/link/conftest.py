"""The time of sessions on UDP."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastun.session import clock
from tests.support.datagram_pair import START_S


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    time = SimpleNamespace(s=START_S)
    monkeypatch.setattr(clock, "boottime_s", lambda: time.s)
    return time
