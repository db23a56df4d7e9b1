"""Changes of the host that programs undo: what they are given, and when they are not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.host.journal.changes import Dns, NftTable, RoutingRules

if TYPE_CHECKING:
    from pathlib import Path

HERE, GONE = "lo", "fastun99"
RECORDER = """#!/bin/sh
{{ echo "$0 $*" | sed 's|.*/||'; [ "$1" != -f ] || cat; }} >> {record}
exit {code}
"""


class Programs:
    """Programs that record what they are given, and end with this code."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record = directory / "record"
        self.end_with(0)

    def end_with(self, code: int) -> None:
        for name in ("resolvconf", "resolvectl", "nft"):
            program = self._directory / name
            program.write_text(RECORDER.format(record=self._record, code=code))
            program.chmod(0o755)

    def given(self) -> list[str]:
        return self._record.read_text().splitlines() if self._record.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Programs(tmp_path)


@pytest.mark.parametrize(("interface", "owner_died"), [(HERE, False), (GONE, False), (GONE, True)])
def test_what_is_ours_is_undone(programs: Programs, interface: str, *, owner_died: bool) -> None:
    Dns(interface, "resolvconf").undo(5, owner_died=owner_died)
    Dns(interface, "resolvectl").undo(5, owner_died=owner_died)
    NftTable("fastun0", interface).undo(5, owner_died=owner_died)
    assert programs.given() == [
        f"resolvconf -d {interface} -f",
        f"resolvectl revert {interface}",
        "nft -j -f -",
    ]


def test_what_belongs_to_a_living_interface_is_not_a_dead_gateway_s(programs: Programs) -> None:
    Dns(HERE, "resolvconf").undo(5, owner_died=True)
    NftTable("fastun0", HERE).undo(5, owner_died=True)
    assert programs.given() == []


def test_a_refusal_is_a_failure_unless_it_went_with_the_interface(programs: Programs) -> None:
    programs.end_with(3)
    for change in (Dns(GONE, "resolvconf"), Dns(HERE, "resolvectl"), NftTable("fastun0", GONE)):
        with pytest.raises(RuntimeFailure, match="exit code 3"):
            change.undo(5, owner_died=False)
    Dns(GONE, "resolvectl").undo(5, owner_died=False)


def test_the_message_says_what_to_run() -> None:
    assert Dns("fastun0", "resolvectl").by_hand == "resolvectl revert fastun0"
    flush = "rule flush table 51821"
    assert RoutingRules(51821).by_hand == f"ip {flush}; ip -6 {flush}"
    assert NftTable("fastun0", "fastun0").by_hand == "nft delete table inet fastun0"
