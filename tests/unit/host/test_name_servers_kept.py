"""A tunnel's DNS servers that another program replaces: set again, within reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun import log
from fastun.host import programs
from fastun.host.dns import name_servers, resolv_conf, resolver
from fastun.host.dns.name_servers import NameServers

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.host.journal.journal import Journal

LAN = "nameserver 192.168.1.1\n"
OURS = ("10.9.0.1",)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The resolver's file of a host where no program manages it."""
    path = tmp_path / "resolv.conf"
    path.write_text(LAN)
    monkeypatch.setattr(resolv_conf, "PATH", path)
    monkeypatch.setattr(resolver, "_RESOLV_CONF", path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", ())
    log.configure("console", 0)
    return path


def test_what_a_dhcp_client_writes_anew_is_set_again_three_times_a_minute(
    file: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clock = [100.0]
    monkeypatch.setattr(name_servers.time, "monotonic", lambda: clock[0])
    servers = NameServers("wg0", journal)
    servers.set(OURS, ())
    for _ in range(3):
        servers.look()
        file.write_text("nameserver 192.168.2.1\n")
        servers.look()
        assert resolv_conf.is_first("wg0", OURS)
    file.write_text("nameserver 192.168.3.1\n")
    for _ in range(2):
        servers.look()
    assert file.read_text() == "nameserver 192.168.3.1\n"
    assert servers.state.fault == "another program has replaced the tunnel's DNS servers"
    said = capsys.readouterr().err
    assert said.count("; set again") == 3
    assert said.count("; not set any more") == 1
    clock[0] += 61
    servers.look()
    assert servers.state.fault == ""
    assert resolv_conf.is_first("wg0", OURS)
    assert journal.undo_all() == []
    assert file.read_text() == "nameserver 192.168.3.1\n"


def test_the_end_and_the_next_start_after_a_kill_restore_the_file(
    file: Path, journal: Journal
) -> None:
    servers = NameServers("wg0", journal)
    servers.set(OURS, ("a.example", "~corp.example"))
    assert "search a.example\n" in file.read_text()
    assert servers.state.manager == "file"
    servers.unset()
    assert file.read_text() == LAN
    servers.set(OURS, ())
    assert journal.undo_all() == []
    assert file.read_text() == LAN


def test_split_dns_says_that_it_needs_systemd_resolved(
    file: Path, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    NameServers("wg0", journal).set(OURS, ("~corp.example",))
    assert resolv_conf.is_first("wg0", OURS)
    assert "split DNS needs systemd-resolved" in capsys.readouterr().err
    assert "corp" not in file.read_text()


def test_what_cannot_be_set_is_the_state(file: Path, journal: Journal) -> None:
    file.unlink()
    file.mkdir()
    servers = NameServers("wg0", journal)
    servers.set(OURS, ())
    assert servers.state.fault.startswith("cannot be set: ")
    file.rmdir()
