"""The lane as its gateway sees it: what workers are sent, and their successors."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast
from unittest.mock import Mock

from fastun.host.sockets.maker import OWN
from fastun.lane import channel
from fastun.lane.boot import LanePlan
from fastun.lane.channel import Channel
from fastun.lane.lane import Lane
from fastun.lane.messages import Begin, Boot, ClampMss
from fastun.lane.template import Template
from fastun.lane.worker_process import WorkerProcess
from fastun.native import ROLES, Mode, Wire

if TYPE_CHECKING:
    import socket

    import pytest

    from fastun.lane.lane import LaneOwner
    from fastun.lane.messages import Message


def test_the_readers_get_another_mss_and_so_do_their_successors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: dict[str, socket.socket] = {}

    def spawn(worker: WorkerProcess, _: Template) -> Channel:
        """Stand in for an interpreter: this process is there, and reads the channel itself."""
        worker.channel, ends[worker.role] = channel.of(OWN.channel())
        worker.pid = os.getpid()
        worker.pidfd = os.pidfd_open(os.getpid())
        return worker.channel

    def received(role: str) -> Message | None:
        ends[role].setblocking(False)
        try:
            message = Channel(ends[role]).receive()
        except BlockingIOError:
            return None
        assert message is not None
        channel.close_all(message[1])
        return message[0]

    def boot_mtu(role: str) -> int:
        boot = received(role)
        assert isinstance(boot, Boot)
        assert received(role) == Begin()
        return boot.mss_mtu

    async def scene() -> None:
        plan = LanePlan(os.memfd_create("device"), Wire.WIREGUARD, Mode.TUN, mss_mtu=1420)
        lane = Lane(0, plan, Template())
        owner = cast("LaneOwner", Mock())
        monkeypatch.setattr(WorkerProcess, "spawn", spawn)
        lane.start(owner)
        assert [boot_mtu(role) for role in ROLES] == [1420] * 4
        lane.clamp_mss(1300)
        readers = {role for role in ROLES if received(role) == ClampMss(1300)}
        assert readers == {"tun-reader", "link-reader"}
        lane.start(owner)
        assert [boot_mtu(role) for role in ROLES] == [1300] * 4

    asyncio.run(scene())
