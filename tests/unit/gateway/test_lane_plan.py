"""What the workers are to do, by the settings and by the processors."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun.config.settings import Options, load
from fastun.gateway.lane_plan import SPIN_US, plan_of
from fastun.native import Mode, Offload, Waiting

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.host.device import Device

DEVICE = cast(
    "Device", SimpleNamespace(fds=(-1,), mode=Mode.TUN, offload_max=Offload.NONE, index=7)
)


@pytest.mark.parametrize(("n_cores", "spin_us"), [(1, 0), (2, 0), (3, SPIN_US), (64, SPIN_US)])
def test_writers_spin_only_where_cores_are_spare(
    monkeypatch: pytest.MonkeyPatch, n_cores: int, spin_us: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(n_cores)))
    settings = load("serve", None, Options(wire="plain", insecure=True))
    assert plan_of(settings, DEVICE).waiting == Waiting(hands_over=True, spin_us=spin_us)


def test_steps_are_not_done_for_others_where_the_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "ft.toml"
    file.write_text("[workers]\nhand_over = false\n", encoding="utf-8")
    settings = load("serve", None, Options(wire="plain", insecure=True, config=file))
    assert not plan_of(settings, DEVICE).waiting.hands_over
