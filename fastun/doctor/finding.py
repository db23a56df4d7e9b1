"""What ``fastun doctor`` finds: one finding a check, and what the checks look at."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastun.errors import FastunError

if TYPE_CHECKING:
    from fastun.doctor.probe import Probe
    from fastun.peers.peer import Peer
    from fastun.status.reply import Status

# unknown: it could not be checked.
Verdict = Literal["ok", "warn", "FAIL", "unknown"]

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the fix where something is wrong."""

    check: str
    verdict: Verdict
    message: str
    fix: str = ""


def finding(verdict: Verdict, message: str, fix: str = "") -> Finding:
    """Return a finding whose check is not named yet."""
    return Finding("", verdict, message, fix)


def named(check: str, found: Finding) -> Finding:
    """Return the finding with the name of its check."""
    return dataclasses.replace(found, check=check)


@dataclass(frozen=True)
class Subject:
    """What is looked at: this host, and a state and a run directory on it.

    What several checks need is looked up once, by the first.
    """

    state: Path
    run_dir: Path

    @functools.cached_property
    def probe(self) -> Probe:
        """What a TUN device in a namespace of its own could do."""
        from fastun.doctor import probe  # noqa: PLC0415 (it may not load: that is a finding)

        return probe.run()

    @functools.cached_property
    def sealing_library(self) -> str:
        """The library that encrypts, "" if it cannot be asked.

        In a process of its own: see gcrypt.py.
        """
        program = "from fastun import native; print(native.sealing_library())"
        asked = subprocess.run(
            [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()

    @functools.cached_property
    def peers(self) -> tuple[Peer, ...] | None:
        """The peers of the directory, None when there is none. Raises FastunError and OSError."""
        from fastun.peers.store import FILE_NAME, PeerStore  # noqa: PLC0415 (as the commands do)

        path = self.state / FILE_NAME
        if not path.exists():
            return None
        require(path, os.R_OK | os.W_OK)  # SQLite's locks write
        with PeerStore(self.state) as store:
            return store.peers()

    def peers_known(self) -> tuple[Peer, ...]:
        """Return the peers as far as they can be read; what is wrong is another check's finding."""
        try:
            return self.peers or ()
        except (FastunError, OSError):
            return ()

    @functools.cached_property
    def gateways(self) -> list[Status]:
        """The gateways that run with this run directory, as far as they answer."""
        from fastun.status import control  # noqa: PLC0415 (as above)

        found = []
        for path in sorted(self.run_dir.glob("*.sock")):
            try:
                found.append(control.request(path, "status"))
            except FastunError:  # killed, or not ours to ask
                continue
        return found


def require(path: Path, mode: int) -> None:
    """Raise PermissionError unless this process may use the path so (os.access)."""
    if not os.access(path, mode):
        raise PermissionError(13, "Permission denied", str(path))


def capabilities() -> int:
    """Return the effective capabilities of this process, a bit each (linux/capability.h)."""
    for line in (PROC / "self" / "status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
