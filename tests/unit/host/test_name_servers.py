"""DNS: what the resolver's programs are given, and what they never are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.host.dns import name_servers, resolver
from fastun.host.dns.name_servers import NameServers

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.host.journal.journal import Journal

RECORDER = """#!/bin/sh
{{ echo "$*"; [ "$1" != -a ] || while read -r line; do echo "$line"; done; }} >> {record}
"""
SHELL = "$(touch${IFS}PWNED)"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a resolvconf, the only program that there is, was given."""
    record, program = tmp_path / "record", tmp_path / "resolvconf"
    record.touch()
    program.write_text(RECORDER.format(record=record))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return record


def test_addresses_zones_and_domains_are_passed_on(record: Path, journal: Journal) -> None:
    servers = ("10.9.0.1", "fd00:9::1", "fe80::1%eth0.7", "::ffff:10.9.0.1")
    NameServers("wg=a+b.c-d_e", journal).set(servers, ("example.net", "_a.b-c.", "x"))
    assert record.read_text().splitlines() == [
        "-a wg=a+b.c-d_e -m 0 -x",
        *(f"nameserver {server}" for server in servers),
        "search example.net _a.b-c. x",
    ]


@pytest.mark.parametrize(
    ("interface", "server", "domain"),
    [
        ("wg0", f"fe80::1%{SHELL}", "a"),
        ("wg0", "fe80::1%a\nsearch b", "a"),
        ("wg0", "fe80::1%a\n", "a"),
        ("wg0", "fe80::1%0123456789abcdef", "a"),
        ("wg0", "fe80::1%", "a"),
        ("wg0", "10.9.0.1\n", "a"),
        ("wg0", "-x", "a"),
        ("wg0", "", "a"),
        ("wg0", "10.9.0.1 10.9.0.2", "a"),
        ("wg0", "10.9.0.1", SHELL),
        ("wg0", "10.9.0.1", "a b"),
        ("wg0", "10.9.0.1", "a\n"),
        ("wg0", "10.9.0.1", "-a"),
        ("wg0", "10.9.0.1", ""),
        ("wg0", "10.9.0.1", "a" * 255),
        (SHELL[:15], "10.9.0.1", "a"),
        ("a;b", "10.9.0.1", "a"),
        ("-d", "10.9.0.1", "a"),
    ],
)
def test_what_a_shell_could_read_as_more_is_passed_to_no_program(
    record: Path, journal: Journal, interface: str, server: str, domain: str
) -> None:
    servers = NameServers(interface, journal)
    with pytest.raises(RuntimeFailure, match="not valid for a resolver"):
        servers.set(("10.9.0.9", server), ("a", domain))
    assert journal.undo_all() == []
    assert record.read_text() == ""


def test_what_is_refused_is_undone_at_once_and_never_again(record: Path, journal: Journal) -> None:
    program = record.with_name("resolvconf")
    program.write_text(program.read_text() + "exit 3\n")
    NameServers("wg0", journal).set(("10.9.0.1",), ())
    given = ["-a wg0 -m 0 -x", "nameserver 10.9.0.1", "-d wg0 -f"]
    assert record.read_text().splitlines() == given
    assert journal.undo_all() == []
    assert record.read_text().splitlines() == given


def test_what_hangs_is_undone_at_the_end(
    record: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_servers, "_LIMIT_S", 0.2)
    program, sleep = record.with_name("resolvconf"), shutil.which("sleep", path="/usr/bin:/bin")
    program.write_text(program.read_text() + f"[ $1 = -d ] || {sleep} 20\n")
    NameServers("wg0", journal).set(("10.9.0.1",), ())
    assert "-d wg0 -f" not in record.read_text()
    assert journal.undo_all() == []
    assert record.read_text().endswith("-d wg0 -f\n")


def test_what_is_unset_is_undone_once_and_may_be_set_again(record: Path, journal: Journal) -> None:
    servers = NameServers("wg0", journal)
    servers.unset()
    for _ in range(2):
        servers.set(("10.9.0.1",), ())
        servers.unset()
        servers.unset()
    set_and_unset = ["-a wg0 -m 0 -x", "nameserver 10.9.0.1", "-d wg0 -f"]
    assert record.read_text().splitlines() == 2 * set_and_unset
    assert journal.undo_all() == []
    assert record.read_text().splitlines() == 2 * set_and_unset, "nothing is left for the end"


def test_domains_for_routing_only_are_for_systemd_resolved_alone(
    record: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    NameServers("wg0", journal).set(("10.9.0.1",), ("~corp.example", "a.example", "~."))
    assert record.read_text().splitlines()[-1] == "search a.example"
    record.write_text("")
    record.with_name("resolvconf").rename(record.with_name("resolvectl"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(resolver, "manager", lambda: "resolvectl")
    NameServers("wg1", journal).set(("10.9.0.1",), ("~corp.example", "a.example"))
    assert "domain wg1 ~corp.example a.example" in record.read_text().splitlines()
