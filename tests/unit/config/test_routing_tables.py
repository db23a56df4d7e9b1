"""The names of routing tables are those that `ip` of this host knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.config import routing_tables

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_kernels_own_tables_have_names_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_tables, "_FILES", (str(tmp_path / "missing"),))
    monkeypatch.setattr(routing_tables, "_FOLDERS", (str(tmp_path / "missing.d"),))
    numbers = [routing_tables.number_of(name) for name in ("main", "local", "default", "office")]
    assert numbers == [254, 255, 253, None]


def test_later_files_add_to_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, folder = tmp_path / "a", tmp_path / "b", tmp_path / "rt_tables.d"
    folder.mkdir()
    first.write_text("# the tables\n255\tlocal\n0x10 office # ours\n20 branch\nx y\n1 2 3\n\xff")
    second.write_text("30 branch\n")
    (folder / "c.conf").write_text("40 lab")
    (folder / "d").write_text("50 other")
    monkeypatch.setattr(routing_tables, "_FILES", (str(first), str(second)))
    monkeypatch.setattr(routing_tables, "_FOLDERS", (str(folder),))
    numbers = map(routing_tables.number_of, ("office", "branch", "lab", "other", "x", "main"))
    assert list(numbers) == [16, 30, 40, None, None, 254]
