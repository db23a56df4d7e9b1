"""fastun.gateway.quiet: when a gateway looks less often."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fastun.gateway import quiet as module
from fastun.gateway.quiet import AFTER_S, Quiet
from fastun.pace import PACE, QUIET_S
from fastun.session.timers import PeerTimers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scene:
    """A tunnel with one peer, whose device is an eventfd."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.n_frames, self.is_tried = 1000.0, 0, False
        self.timers = PeerTimers(jitter=lambda: 0.0)
        self.device = os.eventfd(0, os.EFD_NONBLOCK)
        self.links = SimpleNamespace(n_established=0)
        monkeypatch.setattr(module.clock, "boottime_s", lambda: self.now_s)

    def quiet(self) -> Quiet:
        lane = SimpleNamespace(stats=SimpleNamespace(counter=lambda *_: self.n_frames))
        tunnel: Any = SimpleNamespace(
            device=SimpleNamespace(fds=(self.device,), set_quiet=lambda **_: None),
            lanes=SimpleNamespace(all=(lane,)),
            links=self.links,
            outside=SimpleNamespace(attempts=SimpleNamespace(are_made=lambda: self.is_tried)),
            sessions=SimpleNamespace(timers=lambda: iter([self.timers])),
            datagrams=None,
        )
        return Quiet(tunnel)

    def look(self, quiet: Quiet, after_s: float = 0.0) -> bool:
        self.now_s += after_s
        quiet.look()
        return PACE.is_quiet


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    here = Scene(monkeypatch)
    yield here
    PACE.is_quiet = False
    os.close(here.device)


def test_it_is_quiet_some_time_after_the_last_frame(scene: Scene) -> None:
    async def run() -> None:
        quiet = scene.quiet()
        assert not scene.look(quiet)
        scene.n_frames += 1
        assert not scene.look(quiet, AFTER_S)
        assert not scene.look(quiet, AFTER_S - 0.1)
        assert scene.look(quiet, 0.2)
        assert scene.look(quiet, 1000.0)
        scene.n_frames += 1
        assert not scene.look(quiet)

    asyncio.run(run())


def test_a_frame_ends_it_at_once(scene: Scene) -> None:
    async def run() -> None:
        quiet = scene.quiet()
        scene.look(quiet)
        assert scene.look(quiet, AFTER_S)
        look = asyncio.create_task(PACE.next_look(3600.0, 3600.0))
        await asyncio.sleep(0)
        os.eventfd_write(scene.device, 1)
        async with asyncio.timeout(60):
            await look
        assert not PACE.is_quiet
        assert not scene.look(quiet, AFTER_S - 0.1)

    asyncio.run(run())


@pytest.mark.parametrize("what", ["attempts", "an answer", "a handshake", "a new link"])
def test_it_is_not_while_something_is_waited_for(scene: Scene, what: str) -> None:
    async def run() -> None:
        quiet = scene.quiet()
        scene.look(quiet)
        scene.is_tried = what == "attempts"
        if what == "an answer":
            scene.timers.on_data_sent(scene.now_s)
        elif what == "a handshake":
            scene.timers.on_data_queued(scene.now_s)
        elif what == "a new link":
            scene.links.n_established += 1
        assert not scene.look(quiet, AFTER_S + 1)

    asyncio.run(run())


def test_a_timer_is_not_late(scene: Scene) -> None:
    quiet = scene.quiet()
    assert quiet.left_s() == QUIET_S
    scene.timers.on_handshake_complete(scene.now_s, is_initiator=False)
    scene.timers.on_data_received(scene.now_s)
    scene.now_s += 9
    assert quiet.left_s() == pytest.approx(1.0)
    scene.now_s += 9
    assert quiet.left_s() == 0
