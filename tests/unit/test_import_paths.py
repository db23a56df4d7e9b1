"""A process that has given its user away imports as before, also from a directory of root alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

# "late" and "kept.late" are imported by the other user.
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from fastun import import_paths
import kept
was_possible = import_paths.open_to_others()
os.setgid(61180)
os.setuid(61180)
try:
    import late, kept.late, json.tool, encodings.idna
    print(was_possible, late.VALUE, kept.late.VALUE)
except (ImportError, OSError) as error:
    print(was_possible, type(error).__name__)
"""


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home" / "lib"
    (folder / "kept").mkdir(parents=True)
    (folder / "kept/__init__.py").touch()
    (folder / "kept/late.py").write_text("VALUE = 2")
    (folder / "late.py").write_text("VALUE = 1")
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(0o755)
    yield folder
    (tmp_path / "home").chmod(0o700)


def imported(folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_modules_of_a_directory_that_only_root_may_enter_can_be_imported(
    modules: Path, mode: int
) -> None:
    modules.parent.chmod(mode)
    assert imported(modules) == "True 1 2"


def test_what_others_may_not_read_itself_is_said(modules: Path) -> None:
    modules.chmod(0o700)
    assert imported(modules).startswith("False ")
