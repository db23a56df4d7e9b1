"""A worker that may be in an attacker's hands: what it says is not believed twice."""

from __future__ import annotations

import asyncio

import pytest

from fastun.errors import RuntimeFailure
from fastun.lane.messages import Ready
from tests.support.running_lane import running, until


def test_a_worker_that_says_ready_twice_or_garbage_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def garbage() -> None:
        raise RuntimeFailure("control channel: not a message")

    async def claim() -> None:
        async with running() as owner:
            worker = owner.worker("tun-writer")
            assert worker.confined is not None
            owner.lane._on_message(worker, Ready(worker.confined))  # noqa: SLF001 (as it arrives)
            await until(lambda: owner.died == ["tun-writer"])
            await until(owner.lane.is_whole)
            worker = owner.worker("link-writer")
            monkeypatch.setattr(worker.channel, "receive", garbage)
            assert not worker._receive_one(lambda *_: None)  # noqa: SLF001 (as above)
            await until(lambda: owner.died == ["tun-writer", "link-writer"])
            await until(owner.lane.is_whole)

    asyncio.run(claim())
    captured = capfd.readouterr()
    said = captured.out + captured.err
    assert "unexpected message: Ready" in said
    assert "bad control message: control channel: not a message" in said
