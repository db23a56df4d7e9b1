"""Which users a gateway and its workers are; the files of the host are the test's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun.host import users
from fastun.host.users import FIRST, LAST, Users, choose

if TYPE_CHECKING:
    from pathlib import Path

ALL_MAPPED = "         0          0 4294967295\n"
ROOT = "CapInh:\t0\nCapEff:\t000001ffffffffff\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which nothing has a number of the range; the process is 5, as root."""
    for directory in ("etc", "proc/self", "dynamic"):
        (tmp_path / directory).mkdir(parents=True)
    monkeypatch.setattr(users, "_ETC", tmp_path / "etc")
    monkeypatch.setattr(users, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(users, "_DYNAMIC_USERS", tmp_path / "dynamic")
    monkeypatch.setattr(os, "getpid", lambda: 0)  # which begins at FIRST
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbad line\n:::\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    itself = tmp_path / "proc/self"
    (itself / "status").write_text(ROOT)
    (itself / "setgroups").write_text("allow\n")
    for name in ("uid_map", "gid_map"):
        (itself / name).write_text(ALL_MAPPED)
    return tmp_path


def test_the_system_user_is_taken_where_there_is_one(host: Path) -> None:
    (host / "etc/passwd").write_text("fastuna:x:1:1::/:\nfastun:x:998:997::/:/bin/false\n")
    assert choose() == Users(998, 997, FIRST)


@pytest.mark.parametrize("line", ["fastun:x:0:0::/:", "fastun:x:::/:", "fastun", "fastun:x:no:1"])
def test_a_system_user_that_is_root_or_garbled_is_not_taken(host: Path, line: str) -> None:
    (host / "etc/passwd").write_text(line + "\n")
    assert FIRST <= choose().user <= LAST


def test_otherwise_a_number_that_nothing_on_this_host_has(host: Path) -> None:
    assert choose() == Users(FIRST, FIRST, FIRST + 1)
    with (host / "etc/passwd").open("a") as passwd:
        passwd.write(f"someone:x:{FIRST}:100::/:\nother:x:1000:{FIRST + 1}::/:\n")
    with (host / "etc/group").open("a") as group:
        group.write(f"some:x:{FIRST + 2}:root,{FIRST + 5}\n")
    (host / f"dynamic/{FIRST + 3}").touch()
    (host / "dynamic/direct:unbound").touch()
    running = host / "proc/77"
    running.mkdir()
    (running / "status").write_text(f"Name:\tx\nUid:\t1\t2\t{FIRST + 4}\t3\nGid:\t9\n")
    assert choose() == Users(FIRST + 5, FIRST + 5, FIRST + 6)


def test_a_host_on_which_all_numbers_are_taken_has_none(host: Path) -> None:
    for number in range(FIRST, LAST + 1):
        (host / f"dynamic/{number}").touch()
    assert choose().user == 0


@pytest.mark.parametrize(
    ("capabilities", "why"),
    [
        ("0000000000003000", "without CAP_KILL, CAP_SETGID, CAP_SETUID"),
        ("000001ffffffffdf", "without CAP_KILL"),
        ("00000000000000a0", "without CAP_SETGID"),
    ],
)
def test_without_the_capabilities_workers_keep_the_gateways_user(
    host: Path, capabilities: str, why: str
) -> None:
    (host / "proc/self/status").write_text(f"CapEff:\t{capabilities}\n")
    assert choose() == Users(why=why)


@pytest.mark.parametrize("has_system_user", [False, True])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("setgroups", "deny\n"),
        ("uid_map", "         0       1000          1\n"),
        ("gid_map", "0 1000 1\n1 100000 900\n"),
    ],
)
def test_a_user_namespace_without_the_number_is_named(
    host: Path, file: str, text: str, has_system_user: bool
) -> None:
    if has_system_user:
        (host / "etc/passwd").write_text("fastun:x:998:998::/:/bin/false\n")
    (host / "proc/self" / file).write_text(text)
    assert (choose().user, bool(choose().why)) == (0, True)


def test_a_user_namespace_with_enough_numbers_has_one(host: Path) -> None:
    for name in ("uid_map", "gid_map"):
        (host / "proc/self" / name).write_text("0 1000 1\n1 100000 65536\n")
    assert choose() == Users(FIRST, FIRST, FIRST + 1)
