"""The release before this one, built beside it: packaging/previous-release has its commit.

It is kept in .package/previous/COMMIT, so only the first use takes the time of a build (8 s of a
processor).
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.lab.host import Host

ROOT: Final = Path(__file__).resolve().parents[2]
COMMIT: Final = (ROOT / "packaging" / "previous-release").read_text(encoding="ascii").strip()
_BUILD_LIMIT_S: Final = 240
_LIBRARY: Final = "_fastun.abi3.so"


def skip_where_missing() -> None:
    """Skip a test where the checkout has not its commit, as a shallow clone has not."""
    found = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{COMMIT}^{{commit}}"],
        capture_output=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(
            f"needs the commit of the previous release, {COMMIT:.12} (git fetch --unshallow)"
        )


def built() -> Path:
    """Return the Python that has the previous release installed; build it if need be.

    It has an environment of its own, since a gateway starts Python anew, without its variables.
    """
    home = ROOT / ".package" / "previous" / COMMIT
    python, source = home / "bin" / "python", home / "source"
    if (home / "built").exists():
        return python
    source.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    venv.create(home, symlinks=True)
    packages = _packages_of(python)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
    subprocess.run(
        [*pip, "--target", str(packages), str(source)], check=True, timeout=_BUILD_LIMIT_S
    )
    # What it needs, this one needs too, and has. Behind its own: fastun itself is not of those.
    (packages / "needed.pth").write_text(
        f"{_packages_of(Path(sys.executable))}\n", encoding="utf-8"
    )
    (home / "built").touch()
    return python


def _packages_of(python: Path) -> Path:
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([str(python), "-c", show], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def program(python: Path, command: Sequence[str]) -> tuple[str, ...]:
    """Return ``command``, a Python and what it runs, with the Python of the previous release.

    -P: else it would import what is in the working directory, which is this one.
    """
    return (str(python), "-P", *command[1:])


def is_of(host: Host) -> bool:
    """Return whether the processes of a host are of the previous release; all are of one."""
    lines = [
        line
        for pid in host.pids()
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    ]
    mapped = [COMMIT in line for line in lines if line.endswith(_LIBRARY)]
    assert mapped
    assert any(mapped) == all(mapped)
    return any(mapped)
