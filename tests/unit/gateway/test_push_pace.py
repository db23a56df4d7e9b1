"""How often a client applies what a server pushes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fastun import log
from fastun.config.push import Push
from fastun.gateway import push_pace
from fastun.gateway.push_pace import BURST, PushPace
from fastun.session import clock


def push(n: int) -> Push:
    return Push(routes=(f"10.{n}.0.0/16",))


class Scene:
    """A pace whose time is at hand; `passed` has when each push passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, object, tuple[object, ...]]] = []
        self.passed: list[tuple[float, Push]] = []
        monkeypatch.setattr(clock, "boottime_s", lambda: self.now_s)
        loop = SimpleNamespace(call_later=self._call_later)
        monkeypatch.setattr(push_pace, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
        self.pace = PushPace(lambda _, push: self.passed.append((self.now_s, push)))

    def _call_later(self, wait_s: float, call: object, *arguments: object) -> None:
        self.timers.append((self.now_s + wait_s, call, arguments))

    def wait_until(self, now_s: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= now_s]:
            timer = min(due, key=lambda each: each[0])
            self.timers.remove(timer)
            self.now_s = timer[0]
            timer[1](*timer[2])  # type: ignore[operator]
        self.now_s = now_s


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_what_a_server_says_again_always_passes(scene: Scene) -> None:
    for _ in range(3 * BURST):
        scene.pace.put("server", push(1))
    assert len(scene.passed) == 3 * BURST


def test_a_server_that_changes_its_mind_all_the_time_is_followed_twice_a_minute(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("console", 0)
    for second in range(600):
        scene.wait_until(second)
        scene.pace.put("server", push(second % 200))
    structlog.reset_defaults()
    assert 1 + BURST <= len(scene.passed) <= 1 + BURST + 600 / push_pace.INTERVAL_S + 1
    scene.wait_until(700)
    assert scene.passed[-1][1] == push(599 % 200), "the last of all"
    assert capsys.readouterr().err.count("too often") == 1


def test_one_server_costs_another_nothing(scene: Scene) -> None:
    for n in range(3 * BURST):
        scene.pace.put("bad", push(n))
    scene.pace.put("good", push(1))
    scene.pace.put("good", push(2))
    assert scene.passed[-1][1] == push(2)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 5)), max_size=60))
def test_however_it_comes_it_is_bounded_and_the_newest_is_in_effect_at_the_end(
    steps: list[tuple[float, int]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        scene = Scene(monkeypatch)
        for wait_s, n in steps:
            scene.wait_until(scene.now_s + wait_s)
            scene.pace.put("server", push(n))
        end_s = scene.now_s
        scene.wait_until(end_s + 100)
        if steps:
            assert scene.passed[-1][1] == push(steps[-1][1])
        changes = [
            at
            for (at, now), (_, was) in zip(scene.passed[1:], scene.passed, strict=False)
            if now != was
        ]
        for first in range(len(changes)):
            for last in range(first, len(changes)):
                allowed = BURST + (changes[last] - changes[first]) / push_pace.INTERVAL_S + 1
                assert last - first + 1 <= allowed + 1e-6
