"""One server a state directory, whatever else is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.host import state_claim
from fastun.host.state_claim import StateClaim

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_claim, "_WAIT_S", 0.0)


def test_the_second_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = StateClaim(state)
    assert (state / state_claim.NAME).stat().st_mode & 0o077 == 0
    with pytest.raises(RuntimeFailure, match=f"--state {state}: another gateway serves from it; "):
        StateClaim(state)
    first.close()
    assert not list(state.iterdir())
    StateClaim(state).close()


def test_one_that_was_killed_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / state_claim.NAME).touch(mode=0o600)
    StateClaim(tmp_path).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_where_none_can_be_made_a_server_starts_all_the_same(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Whoever may write there can do more than that."""
    make(tmp_path / state_claim.NAME)
    StateClaim(tmp_path).close()
    assert os.path.lexists(tmp_path / state_claim.NAME)
