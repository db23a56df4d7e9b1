"""How many lanes there are: as asked for, or by the cores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun.config.lanes import of_cores
from fastun.config.settings import Options, load
from fastun.errors import ConfigError
from fastun.native import LANES_MAX

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("n_cores", "n_lanes"), [(1, 1), (3, 1), (4, 2), (5, 2), (8, 4), (32, 16), (256, LANES_MAX)]
)
def test_a_lane_has_two_cores_and_a_small_machine_one_lane(n_cores: int, n_lanes: int) -> None:
    assert of_cores(n_cores) == n_lanes


def lanes_of(**options: str | bool | None) -> int:
    return load("serve", None, Options(**options)).lanes  # type: ignore[arg-type]


def test_auto_is_by_the_cores_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert lanes_of() == 1
    assert lanes_of(lanes="auto") == 4
    assert lanes_of(lanes="auto", mode="tap") == 1
    assert lanes_of(lanes="auto", wire="plain", insecure=True) == 1
    file = tmp_path / "ft.toml"
    file.write_text('[interface]\nlanes = "auto"\n', encoding="utf-8")
    assert load("serve", None, Options(config=file)).lanes == 4


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"lanes": "two"}, "--lanes: 'two' is not a number of lanes; use 1 or 'auto'"),
        ({"lanes": "-1"}, "--lanes: '-1' is not a number of lanes; use 1 or 'auto'"),
        ({"lanes": "0"}, "--lanes: 0 is out of range (1-16, or 'auto')"),
        ({"lanes": "99999999"}, "--lanes: 9999 is out of range (1-16, or 'auto')"),
        ({"lanes": "2", "mode": "tap"}, "--lanes: a TAP device has 1 lane only; use 1 or 'auto'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        lanes_of(**options)
    assert str(refused.value) == why
