"""The dashboard and the rules, as `fastun grafana` writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fastun.command.cli import cli
from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from pathlib import Path


def write(out: Path) -> list[str]:
    done = CliRunner().invoke(cli, ["grafana", "--out", str(out)], catch_exceptions=False)
    return done.stdout.splitlines()


def test_what_is_printed_is_there(tmp_path: Path) -> None:
    written = write(tmp_path / "new")
    names = sorted(path.name for path in (tmp_path / "new").rglob("*") if path.is_file())
    assert sorted(line.rpartition("/")[2] for line in written) == names
    assert {"fastun.json", "fastun.rules.yaml", "fastun.alerts.yaml"} <= set(names)
    assert json.loads((tmp_path / "new" / "dashboards" / "fastun.json").read_text())["panels"]


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    assert write(tmp_path) == write(tmp_path)


def test_a_file_that_was_changed_is_kept_and_nothing_is_written(tmp_path: Path) -> None:
    mine = tmp_path / "prometheus" / "fastun.rules.yaml"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(RuntimeFailure, match=r"fastun\.rules\.yaml.* is there"):
        write(tmp_path)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "dashboards").exists()
