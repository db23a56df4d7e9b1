"""/etc/resolv.conf with a tunnel's servers, and as it was before."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.errors import RuntimeFailure
from fastun.host.dns import resolv_conf
from fastun.host.journal.changes import ResolvConf

LAN = "# of the LAN\nnameserver 192.168.1.1\n search lan\noptions edns0\nnameserver 192.168.1.2"

LINES = st.sampled_from(
    ["nameserver 192.168.1.1", "search lan", "domain lan", "options edns0", "", "# a", "nameserver",
     "#wg# nameserver x", "\tnameserver fe80::1%eth0", "nameservers 1", "#fastun: before, this"]
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=6).map("\n".join)
TUNNELS = ("wg0", "wg1", "wg=a.b")


def servers_of(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.split()[:1] == ["nameserver"]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "resolv.conf"
    path.parent.mkdir()
    path.write_text(LAN)
    monkeypatch.setattr(resolv_conf, "PATH", path)
    return path


def test_our_servers_are_the_only_ones_and_options_stay() -> None:
    text = resolv_conf.added(LAN, "wg0", ("10.9.0.1", "fd00::1"), ("corp.example", "b"))
    assert servers_of(text) == ["10.9.0.1", "fd00::1"]
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "nameserver 10.9.0.1",
        "nameserver fd00::1",
        "search corp.example b",
        "options edns0",
    ]
    without = resolv_conf.added(LAN, "wg0", ("10.9.0.1",))
    assert " search lan" in without.splitlines(), "nothing replaces it"
    assert servers_of(resolv_conf.set_aside(text)) == ["192.168.1.1", "192.168.1.2"]


@given(TEXTS, st.lists(st.tuples(st.sampled_from(TUNNELS), st.booleans()), max_size=8), st.data())
def test_whatever_tunnels_come_and_go_in_what_order_the_text_is_as_before(
    text: str, steps: list[tuple[str, bool]], data: st.DataObject
) -> None:
    there: list[str] = []
    now = text
    for tunnel, comes in steps:
        there = [each for each in there if each != tunnel]
        if comes:
            there.append(tunnel)
            now = resolv_conf.added(now, tunnel, (f"10.{len(tunnel)}.0.1",), ("a",))
            assert servers_of(now) == [f"10.{len(tunnel)}.0.1"]
        else:
            now = resolv_conf.removed(now, tunnel)
    for tunnel in data.draw(st.permutations(there)):
        assert resolv_conf.is_in(now, tunnel)
        now = resolv_conf.removed(now, tunnel)
    assert now == text


@pytest.mark.parametrize("how", ["file", "link", "dangling link", "nothing"])
def test_the_file_is_restored_whatever_it_was(file: Path, how: str) -> None:
    if how != "file":
        file.unlink()
    if how.endswith("link"):
        file.symlink_to("../run/stub.conf")
    if how == "link":
        (file.parent.parent / "run").mkdir()
        (file.parent.parent / "run" / "stub.conf").write_text(LAN)
    before = file.stat().st_ino if how == "file" else None
    resolv_conf.add("wg0", ("10.9.0.1",), ())
    resolv_conf.add("wg0", ("10.9.0.2",), ())
    resolv_conf.add("wg1", ("10.8.0.1",), ())
    assert not file.is_symlink()
    assert servers_of(file.read_text()) == ["10.8.0.1"]
    assert resolv_conf.is_first("wg1", ("10.8.0.1",))
    assert not resolv_conf.is_first("wg0", ("10.9.0.2",))
    resolv_conf.remove("wg0")
    assert resolv_conf.is_first("wg1", ("10.8.0.1",))
    ResolvConf("wg1").undo(1.0, owner_died=False)
    resolv_conf.remove("wg1")
    assert file.is_symlink() == how.endswith("link")
    assert file.exists() == (how in ("file", "link"))
    if how == "file":
        assert file.stat().st_ino == before, "it may be mounted"
        assert file.read_text() == LAN
    elif file.is_symlink():
        assert os.readlink(file) == "../run/stub.conf"  # noqa: PTH115 (as it was written)
    assert [path.name for path in file.parent.iterdir()] in (["resolv.conf"], [])


def test_the_command_that_restores_it_by_hand_does(file: Path) -> None:
    resolv_conf.add("wg0", ("10.9.0.1",), ("a",))
    subprocess.run(("sh", "-c", ResolvConf("wg0").by_hand), check=True)
    assert file.read_text().rstrip("\n") == LAN


def test_what_another_program_has_written_since_stays(file: Path) -> None:
    resolv_conf.add("wg0", ("10.9.0.1",), ())
    file.write_text("nameserver 192.168.9.9\n")
    assert not resolv_conf.is_first("wg0", ("10.9.0.1",))
    resolv_conf.remove("wg0")
    assert file.read_text() == "nameserver 192.168.9.9\n"
    resolv_conf.add("wg0", ("10.9.0.1",), ())
    file.write_text(file.read_text() + "options rotate\n")
    resolv_conf.remove("wg0")
    assert file.read_text() == "nameserver 192.168.9.9\noptions rotate\n"


def test_a_file_that_cannot_be_written_is_one_line(file: Path) -> None:
    file.unlink()
    file.parent.rmdir()
    with pytest.raises(RuntimeFailure, match=r"resolv.conf: No such file or directory"):
        resolv_conf.add("wg0", ("10.9.0.1",), ())
