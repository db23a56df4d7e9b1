"""The same commit gives the same packages, byte by byte, wherever they are built."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def build(origin: Path, directory: Path) -> dict[str, str]:
    """Build all packages in a clone; returns their hashes."""
    subprocess.run(["git", "clone", "-q", origin, directory], check=True)
    subprocess.run([directory / "run", "package", "deb"], check=True, umask=0o077)
    files = (directory / "dist").iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_two_builds_in_two_directories_are_the_same(tmp_path: Path) -> None:
    first = build(ROOT, tmp_path / "a")
    assert {Path(name).suffix for name in first} == {".whl", ".deb", ".json"}
    # Of the first one, since this checkout may have another commit by now.
    longer = tmp_path / "a-directory-with-a-longer-name" / "b"
    assert build(tmp_path / "a", longer) == first
