"""`fastun install-service` on a host whose programs of systemd only note how they are called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastun import service_user
from fastun.errors import ConfigError, RuntimeFailure
from fastun.service import installing, units

SERVE, CONNECT = "fastun-serve@office.service", "fastun-connect@office.service"
STRANGER, SERVICE, GROUP = 12344, 12345, 12346

# What systemctl does to files, and what it answers.
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >> {calls}
[ "$(basename "$0")" = journalctl ] && cat {log}
for unit; do :; done
case "$(basename "$0") $*" in
"systemctl enable"*) ln -sf /nonexistent {wants}/$unit ;;
"systemctl disable"*) rm -f {wants}/$unit ;;
"systemctl restart"*) exit $(cat {code}) ;;
esac
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


class Machine(NamedTuple):
    root: Path
    said: list[str]

    @property
    def settings(self) -> Path:
        return self.root / "fastun" / "office.toml"

    @property
    def units(self) -> Path:
        return self.root / "units"

    def install(self, role: units.Role = "serve", *, starts: bool = True) -> None:
        installing.install(role, "office", self.said.append, starts=starts)

    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()

    def wrote(self) -> list[str]:
        return [line for line in self.said if line.startswith("wrote ")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in ("bin", "fastun", "units/multi-user.target.wants", "none"):
        (tmp_path / name).mkdir(parents=True)
    wants = tmp_path / "units" / "multi-user.target.wants"
    files = {name: tmp_path / name for name in ("calls", "log", "code")}
    files["log"].write_text("")
    files["code"].write_text("0")
    for name in ("systemctl", "journalctl", "systemd-sysusers", "systemd-tmpfiles"):
        program = tmp_path / "bin" / name
        program.write_text(PROGRAM.format(wants=wants, **files))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    directories = (tmp_path / each for each in ("units", "users", "tmp", "polkit"))
    places = units.Places(*directories, units.MARK)
    monkeypatch.setattr(units, "OF_HOST", places)
    monkeypatch.setattr(units, "SETTINGS", tmp_path / "fastun")
    monkeypatch.setattr(units, "this_installation", lambda: units.Installation("/opt/fastun"))
    monkeypatch.setattr(installing, "_RUNS", tmp_path)
    monkeypatch.setattr(installing, "_OF_OTHERS", (tmp_path / "none",))
    monkeypatch.setattr(service_user, "find", lambda: service_user.Numbers(SERVICE, GROUP))
    (tmp_path / "fastun" / "office.toml").write_text("[interface]\n")
    return Machine(tmp_path, [])


def test_it_writes_the_files_and_asks_systemd_in_order(machine: Machine) -> None:
    machine.install()
    assert machine.calls() == [
        "systemd-sysusers ",
        "systemd-tmpfiles --create fastun.conf",
        "systemctl daemon-reload",
        f"systemctl enable --quiet {SERVE}",
        f"systemctl restart {SERVE}",
    ]
    text = (machine.units / "fastun-serve@.service").read_text()
    assert "\nExecStart=/opt/fastun serve " in text
    assert len(machine.wrote()) == 5
    assert not [path for path in machine.root.rglob(".*") if path.is_file()], "half-written files"


def test_an_old_polkit_has_its_kind_of_rule_and_loses_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = machine.root / "none" / "fastun.pkla"
    monkeypatch.setattr(installing, "_OLD_POLKIT", rule.parent)
    machine.install()
    text = rule.read_text()
    assert "Identity=unix-user:fastun\n" in text
    for action in ("set-dns-servers", "set-domains", "revert"):
        assert f"org.freedesktop.resolve1.{action}" in text
        assert f'"{action}"' in (machine.root / "polkit" / "50-fastun.rules").read_text()
    installing.remove("serve", "office", machine.said.append)
    assert not rule.exists()


def test_a_second_time_writes_nothing(machine: Machine) -> None:
    machine.install()
    machine.said.clear()
    machine.install(starts=False)
    assert machine.wrote() == []
    assert machine.calls()[-1].startswith("systemctl enable")


@pytest.mark.parametrize(("before", "after"), [(0o600, 0o640), (0o640, 0o640), (0o644, 0o644)])
def test_the_service_can_read_its_settings_and_not_write_them(
    machine: Machine, before: int, after: int
) -> None:
    machine.settings.chmod(before)
    machine.install()
    status = machine.settings.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, after)
    assert status.st_gid == (0 if before == 0o644 else GROUP)


@pytest.mark.parametrize("owner", [STRANGER, SERVICE])
def test_whoever_owned_the_settings_gets_no_other_file_opened_by_root(
    machine: Machine, owner: int
) -> None:
    secret = machine.root / "shadow"
    secret.write_text("root:$y$\n")
    secret.chmod(0o600)
    os.chown(machine.settings.parent, owner, owner)
    machine.settings.unlink()
    machine.settings.symlink_to(secret)
    with pytest.raises(ConfigError, match=f"can be replaced by user {owner}"):
        machine.install()
    assert (secret.stat().st_gid, secret.stat().st_mode & 0o777) == (0, 0o600)


def test_a_link_in_place_of_a_half_written_unit_is_not_followed(tmp_path: Path) -> None:
    unit, victim = tmp_path / "made" / "a.service", tmp_path / "victim"
    unit.parent.mkdir()
    victim.write_text("kept")
    unit.with_name(f".a.service.{os.getpid()}").symlink_to(victim)
    installing.write({Path("/made/a.service"): "text"}, tmp_path)
    assert (victim.read_text(), unit.read_text()) == ("kept", "text")
    assert not unit.is_symlink()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_others_may_at_no_moment_write_to_a_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    modes = []
    really = os.fdopen

    def look(descriptor: int, *arguments: Any, **more: Any) -> Any:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        return really(descriptor, *arguments, **more)

    monkeypatch.setattr(os, "fdopen", look)
    before = os.umask(umask)
    try:
        installing.write({Path("/made/a.service"): "text"}, tmp_path)
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert (tmp_path / "made" / "a.service").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "made").stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("owner", [0, STRANGER])
def test_who_can_change_what_the_service_runs_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    program = machine.root / "bin" / "fastun"
    program.touch()
    os.chown(program, owner, owner)
    here = units.Installation(f"{program} -m fastun")
    monkeypatch.setattr(units, "this_installation", lambda: here)
    machine.install()
    said = [line for line in machine.said if "can so change what the service runs" in line]
    assert len(said) == (owner != 0)
    assert all(line.startswith(f"{program} belongs to user {STRANGER}, ") for line in said)


def test_settings_that_are_not_there_are_asked_for_and_nothing_is_written(machine: Machine) -> None:
    machine.settings.unlink()
    with pytest.raises(ConfigError, match=r"office\.toml: missing; write the settings"):
        machine.install()
    assert not (machine.root / "calls").exists()
    assert not (machine.units / "fastun-serve@.service").exists()


def test_one_file_is_not_both_roles(machine: Machine) -> None:
    machine.install()
    with pytest.raises(ConfigError, match=f"{SERVE} is enabled with the same file; first"):
        machine.install("connect")


def test_the_units_of_a_package_that_run_this_installation_are_used(machine: Machine) -> None:
    packaged = machine.root / "none" / "fastun-serve@.service"
    packaged.write_text("[Service]\nExecStart=/usr/bin/other serve --config x\n")
    machine.install(starts=False)
    assert len(machine.wrote()) == 5, "another installation's"
    machine.said.clear()
    (machine.units / "fastun-serve@.service").unlink()
    packaged.write_text("[Service]\nExecStart=/opt/fastun serve --config x\n")
    machine.install(starts=False)
    assert machine.wrote() == []


def test_a_start_that_fails_has_the_service_s_own_last_words(machine: Machine) -> None:
    (machine.root / "code").write_text("1")
    (machine.root / "log").write_text("Starting\nfastun: a\nfastun: b is wrong\nFailed\n")
    with pytest.raises(RuntimeFailure, match=f"{SERVE} did not start: b is wrong$"):
        machine.install()
    (machine.root / "log").write_text("Failed\n")
    with pytest.raises(RuntimeFailure, match=f"did not start: see journalctl -u {SERVE}$"):
        machine.install()


def test_a_program_of_systemd_that_fails_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = machine.root / "bin" / "systemd-sysusers"
    program.write_text("#!/bin/sh\necho 'no room' >&2\nexit 1\n")
    with pytest.raises(RuntimeFailure, match="systemd-sysusers: no room"):
        machine.install()
    program.unlink()
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(RuntimeFailure, match="systemd-sysusers': No such file"):
        machine.install()


def test_removed_are_the_own_units_once_no_service_needs_them(machine: Machine) -> None:
    machine.install()
    other = machine.units / "multi-user.target.wants" / "fastun-connect@home.service"
    other.symlink_to("/nonexistent")
    installing.remove("serve", "office", machine.said.append)
    assert (machine.units / "fastun-serve@.service").exists()
    other.unlink()
    changed = machine.units / "fastun-connect@.service"
    changed.write_text("# an administrator's\n")
    installing.remove("serve", "office", machine.said.append)
    assert not (machine.units / "fastun-serve@.service").exists()
    assert not (machine.root / "polkit" / "50-fastun.rules").exists()
    assert changed.exists()
    assert machine.settings.exists()
    assert f"systemctl disable --now --quiet {SERVE}" in machine.calls()
    assert machine.calls()[-1] == "systemctl daemon-reload"


def test_only_root_installs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RuntimeFailure, match="run as root"):
        machine.install()
