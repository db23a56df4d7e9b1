"""Run tests in a copy of the checkout, up to the first that fails.

Each function returns the verdict on what stands in the copy, and the last output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"

# A mutant that makes a test or a program hang is noticed, too; none takes a third of this.
TEST_TIMEOUT_S = 60
_RUN_TIMEOUT_S = 600  # for one that hangs when its tests are over

_PYTEST_ALL_PASSED, _PYTEST_SOME_FAILED = 0, 1

# A mutant may leave a parameter or a function unused.
_MAKE = ("make", "-s", "-C", "tests/native", "WARNINGS=-std=c11 -w", "TSAN_TESTS=")


def run_pytest(tests: Sequence[str], copy: Path) -> tuple[str, str]:
    """Run paths or node ids of pytest, in their order."""
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}"]
    try:
        result = _run([sys.executable, "-m", "pytest", *options, *tests], copy)
    except subprocess.TimeoutExpired:
        return KILLED, f"no end within {_RUN_TIMEOUT_S} s"
    verdicts = {_PYTEST_ALL_PASSED: SURVIVED, _PYTEST_SOME_FAILED: KILLED}
    return verdicts.get(result.returncode, BROKEN), result.stdout


def run_native(tests: Sequence[str], copy: Path) -> tuple[str, str]:
    """Build and run test programs of tests/native, under ASan + UBSan, in their order.

    The copy keeps what was built, so a program costs one compilation and a link.
    """
    output = ""
    for test in tests:
        build = _run([*_MAKE, "programs", f"TESTS={test}"], copy)
        if build.returncode:
            return BROKEN, build.stdout
        check = _run([*_MAKE, "check", f"TESTS={test}", f"TEST_SECONDS_MAX={TEST_TIMEOUT_S}"], copy)
        output = check.stdout
        if check.returncode:
            return KILLED, output
    return SURVIVED, output


def _run(command: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    # Python tells a stale .pyc by seconds and size, and a mutant can have both in common with
    # another. An installed fastun must not come before the copy's.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    return subprocess.run(
        command,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_RUN_TIMEOUT_S,
        check=False,
    )
