"""What a gateway says to the service manager, and how often."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fastun.pace import PACE, QUIET_S
from fastun.status.service_manager import ServiceManager

if TYPE_CHECKING:
    from pathlib import Path


def test_the_watchdog_of_a_quiet_tunnel_is_fed_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By looks of the quiet, five times would take some minutes."""
    monkeypatch.setattr(PACE, "is_quiet", True)
    gateway: Any = SimpleNamespace(
        listening=SimpleNamespace(all_bound=asyncio.Event()),
        links=SimpleNamespace(by_slot={}),
        settings=SimpleNamespace(role="serve"),
    )
    health: Any = SimpleNamespace(not_healthy=str, not_ready=str, ready_but=str)

    async def claim() -> int:
        manager = ServiceManager(str(heard.getsockname()), watchdog_s=0.06)
        gateway.listening.all_bound.set()
        n_fed = 0
        async with manager.following(gateway, lambda: health):
            while n_fed < 5 * QUIET_S:
                said = await asyncio.get_running_loop().sock_recv(heard, 4096)
                n_fed += said == b"WATCHDOG=1"
        manager.close()
        return n_fed

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        assert asyncio.run(asyncio.wait_for(claim(), 30))
