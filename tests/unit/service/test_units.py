"""The texts of the units: for any installation, and as strict as they are said to be."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastun.command.cli import cli
from fastun.errors import FastunError, RuntimeFailure
from fastun.service import installing, units
from fastun.service.units import Installation


def version_of_systemd() -> int:
    """That of systemd-analyze, 0 without."""
    if shutil.which("systemd-analyze") is None:
        return 0
    command = ["systemd-analyze", "--version"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(re.findall(r"systemd (\d+)", printed)[0])


HAS_ANALYZE = pytest.mark.skipif(
    version_of_systemd() < 250, reason="needs systemd-analyze of systemd 250 or later"
)


def written(tmp_path: Path, installation: Installation) -> list[Path]:
    installing.write(units.texts(installation, units.OF_PACKAGE), tmp_path)
    return sorted((tmp_path / "usr/lib/systemd/system").iterdir())


def runnable(tmp_path: Path, *hidden: Path) -> Installation:
    program = tmp_path / "fastun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return Installation(str(program), hidden)


def test_both_roles_have_a_unit_whose_every_name_is_filled_in(tmp_path: Path) -> None:
    files = written(tmp_path, Installation("/usr/bin/fastun"))
    assert [path.name for path in files] == ["fastun-connect@.service", "fastun-serve@.service"]
    for path, role in zip(files, ("connect", "serve"), strict=True):
        text = path.read_text()
        assert f"\nExecStart=/usr/bin/fastun {role} --config /etc/fastun/%i.toml " in text
        assert re.findall(r"@[A-Z]+@", text) == []


@HAS_ANALYZE
@pytest.mark.parametrize(
    ("hidden", "exposure_max"), [((), 1.5), ((Path("/root/venv"), Path("/home/a/b")), 1.6)]
)
def test_systemd_finds_nothing_wrong_and_little_exposed(
    tmp_path: Path, hidden: tuple[Path, ...], exposure_max: float
) -> None:
    files = [
        path.rename(path.with_name(path.name.replace("@", "@office")))
        for path in written(tmp_path, runnable(tmp_path, *hidden))
    ]
    for path in files:
        judged = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--no-pager", path],
            check=True,
            capture_output=True,
            text=True,
        )
        (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", judged.stdout)
        assert float(exposure) <= exposure_max, judged.stdout
    verified = subprocess.run(
        ["systemd-analyze", "verify", *files],
        check=False,
        capture_output=True,
        text=True,
    )
    # Of other units of the host, and of calls that an older libseccomp has no name for.
    of_ours = [line for line in verified.stderr.splitlines() if "fastun" in line]
    assert [line for line in of_ours if "ystem call" not in line] == []


def test_what_is_imported_is_named_where_the_sandbox_would_hide_it() -> None:
    try:
        found = units.this_installation()
    except RuntimeFailure as error:
        pytest.skip(str(error))  # this checkout is where no other user may look
    assert Path(found.command.split()[0]).exists()
    shown = [Path(each) for each in found.hidden]
    for path in (Path(sys.prefix), Path(units.__file__).parents[2]):
        is_hidden = path.is_relative_to("/root") or path.is_relative_to("/home")
        assert any(path.is_relative_to(each) for each in shown) or not is_hidden
    text = units.texts(found, units.OF_HOST)[units.OF_HOST.units / units.unit_name("serve")]
    assert ("ProtectHome=tmpfs" in text) == bool(shown)


def test_an_installation_that_a_unit_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my programs" / "python3"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(RuntimeFailure, match=r"my programs.*without spaces"):
        units.this_installation()


# -- the command ----------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["install-service", *arguments], catch_exceptions=False)
    return done.stdout


def test_print_shows_one_unit_and_package_writes_all_that_a_package_has(tmp_path: Path) -> None:
    shown = command("--print", "--role", "connect", "--command", "/usr/bin/fastun")
    assert "\nExecStart=/usr/bin/fastun connect " in shown
    assert shown.startswith(units.MARK)
    paths = command("--package", str(tmp_path), "--command", "/usr/bin/fastun").splitlines()
    assert sorted(path.removeprefix(str(tmp_path)) for path in paths) == [
        "/usr/lib/systemd/system/fastun-connect@.service",
        "/usr/lib/systemd/system/fastun-serve@.service",
        "/usr/lib/sysusers.d/fastun.conf",
        "/usr/lib/tmpfiles.d/fastun.conf",
        "/usr/share/polkit-1/rules.d/50-fastun.rules",
    ]
    assert all(Path(path).stat().st_mode & 0o777 == 0o644 for path in paths)
    assert command("--package", str(tmp_path), "--command", "/usr/bin/fastun") == "", "unchanged"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "NAME: missing"),
        (["../x"], "NAME: '../x' must be letters"),
        (["office", "--command", "/usr/bin/fastun"], "--command: only with"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[str], what: str) -> None:
    with pytest.raises(FastunError, match=what):
        command(*arguments)


def test_without_systemd_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_RUNS", tmp_path / "not there")
    with pytest.raises(RuntimeFailure, match="systemd does not run here"):
        command("office")
