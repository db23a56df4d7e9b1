"""Which services of systemd run fastun on this host, and how they are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.doctor.finding import Finding, finding

if TYPE_CHECKING:
    from fastun.doctor.finding import Subject

_RUNS: Final = Path("/run/systemd/system")  # sd_booted(3)
_UNITS: Final = Path("/etc/systemd/system")
_LIMIT_S: Final = 10.0


def check(_: Subject) -> Finding:
    """Say which are enabled, and warn of one that does not run."""
    if not _RUNS.is_dir():
        return finding("ok", "systemd does not run here")
    found = sorted({path.name for path in _UNITS.glob("*.wants/fastun-*@*.service")})
    if not found:
        return finding("ok", "none; 'fastun install-service NAME' makes one")
    states = {name: _state(name) for name in found}
    if bad := next((name for name, state in states.items() if state == "failed"), ""):
        return finding("FAIL", f"{bad} has failed", f"see journalctl -u {bad}")
    if bad := next((name for name, state in states.items() if state == "inactive"), ""):
        return finding("warn", f"{bad} is enabled, and does not run", f"systemctl start {bad}")
    return finding("ok", ", ".join(f"{name} is {state}" for name, state in states.items()))


def _state(unit: str) -> str:
    try:
        asked = subprocess.run(
            ["systemctl", "is-active", unit],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "unknown: systemd does not answer"
    return asked.stdout.strip()
