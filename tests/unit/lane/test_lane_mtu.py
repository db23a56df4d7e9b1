"""The lane as its gateway sees it: what workers are told, and their successors."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from fastun.lane import channel
from fastun.lane.channel import Boot, Channel, ClampMss
from fastun.lane.lane import Lane, Worker
from fastun.native import ROLES, Mode, Wire

if TYPE_CHECKING:
    import socket
    import subprocess

    import pytest

    from fastun.lane.channel import AnyMessage


def test_the_readers_are_told_of_another_mss_and_so_are_their_successors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: dict[str, socket.socket] = {}

    def spawn(worker: Worker) -> Channel:
        """Stand in for an interpreter: this process is there, and reads the channel itself."""
        worker.channel, ends[worker.role] = channel.pair()
        worker.process = cast("subprocess.Popen[bytes]", object())
        worker.pidfd = os.pidfd_open(os.getpid())
        return worker.channel

    def told(role: str) -> AnyMessage | None:
        ends[role].setblocking(False)
        try:
            received = Channel(ends[role]).receive()
        except BlockingIOError:
            return None
        assert received is not None
        channel.close_all(received[1])
        return received[0]

    def boot_mtu(role: str) -> int:
        boot = told(role)
        assert isinstance(boot, Boot)
        return boot.mss_mtu

    async def scene() -> None:
        lane = Lane(
            0,
            os.memfd_create("device"),
            Wire.WIREGUARD,
            Mode.TUN,
            holds=False,
            mss_mtu=1420,
            on_start=lambda *_: None,
            on_message=lambda *_: None,
            on_death=lambda *_: None,
            on_failure=lambda *_: None,
        )
        monkeypatch.setattr(Worker, "spawn", spawn)
        lane.start()
        assert [boot_mtu(role) for role in ROLES] == [1420] * 4
        lane.clamp_mss(1300)
        readers = {role for role in ROLES if told(role) == ClampMss(1300)}
        assert readers == {"tun-reader", "link-reader"}
        lane.start()
        assert [boot_mtu(role) for role in ROLES] == [1300] * 4

    asyncio.run(scene())
