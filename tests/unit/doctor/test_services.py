"""Which services the doctor finds, with a systemctl of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastun.doctor import services
from fastun.doctor.finding import Subject

SUBJECT = Subject(Path("/nonexistent"), Path("/nonexistent"))


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of units, on a host that systemd runs."""
    monkeypatch.setattr(services, "_RUNS", tmp_path)
    monkeypatch.setattr(services, "_UNITS", tmp_path / "units")
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncat "$(dirname "$0")/$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    wants = tmp_path / "units" / "multi-user.target.wants"
    wants.mkdir(parents=True)
    return wants


def enable(units: Path, name: str, state: str) -> None:
    (units / name).symlink_to("/nonexistent")
    (units.parents[1] / "bin" / name).write_text(f"{state}\n")


def test_without_systemd_or_a_service_there_is_nothing_wrong(
    units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert services.check(SUBJECT).verdict == "ok"
    assert "install-service" in services.check(SUBJECT).message
    monkeypatch.setattr(services, "_RUNS", units / "none")
    assert services.check(SUBJECT).message == "systemd does not run here"


def test_each_service_is_named_with_its_state_and_the_worst_one_counts(units: Path) -> None:
    enable(units, "fastun-serve@office.service", "active")
    finding = services.check(SUBJECT)
    assert (finding.verdict, finding.message) == ("ok", "fastun-serve@office.service is active")
    enable(units, "fastun-connect@a.service", "inactive")
    assert services.check(SUBJECT).verdict == "warn"
    assert services.check(SUBJECT).fix == "systemctl start fastun-connect@a.service"
    enable(units, "fastun-connect@b.service", "failed")
    assert services.check(SUBJECT).verdict == "FAIL"
    assert services.check(SUBJECT).fix == "see journalctl -u fastun-connect@b.service"
