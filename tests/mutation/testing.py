"""Run tests in a copy of the checkout, up to the first that fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.mutation.mutant import Mutant

# BROKEN: cannot be judged, because it does not compile or because no test was run.
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "broken"

# A mutant may make a test or a build hang. No single test takes a third of this.
TEST_TIMEOUT_S = 60
RUN_TIMEOUT_S = 300

_PYTEST_ALL_PASSED, _PYTEST_SOME_FAILED = 0, 1
_TIMEOUT_STATUS = 124  # of timeout(1), which says nothing

# A mutant may leave a parameter or a function unused. The copy keeps what was built, so that a
# program costs one compilation and a link.
MAKE = ("make", "-s", "-C", "tests/native", "WARNINGS=-std=c11 -w")


def verdict_of(mutant: Mutant, copy: Path) -> tuple[str, str]:
    """Return the verdict on what is in the copy, and the last output."""
    if not mutant.native and not mutant.python:
        return SURVIVED, "no test covers it"
    verdict, output = _run_native(mutant.native, copy) if mutant.native else (SURVIVED, "")
    if verdict == SURVIVED and mutant.python:
        verdict, output = _run_pytest(mutant.python, copy)
    return verdict, output


def _run_pytest(tests: Sequence[str], copy: Path) -> tuple[str, str]:
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}"]
    status, output = run([sys.executable, "-m", "pytest", *options, *tests], copy)
    if status is None:
        return KILLED, output
    return {_PYTEST_ALL_PASSED: SURVIVED, _PYTEST_SOME_FAILED: KILLED}.get(status, BROKEN), output


def _run_native(tests: Sequence[str], copy: Path) -> tuple[str, str]:
    """Build and run programs of tests/native under ASan and UBSan, in their order."""
    output = ""
    for test in tests:
        program = f"build/asan/{test}"
        status, output = run([*MAKE, program], copy)
        if status:
            return BROKEN, output
        status, output = run(
            ["timeout", str(TEST_TIMEOUT_S), program], copy / "tests" / "native", {"LC_ALL": "C"}
        )
        if status not in (0, 77):  # 77: skipped
            return KILLED, output + _end_of(status)
    return SURVIVED, output


def _end_of(status: int | None) -> str:
    """Say how a program ended that may have said nothing itself."""
    if status == _TIMEOUT_STATUS:
        return f"no end within {TEST_TIMEOUT_S} s"
    return f"exit code {status}" if status is not None else ""


def run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
) -> tuple[int | None, str]:
    """Return the exit code, None if it did not end, and the output.

    A group of its own: whatever a mutant left running is killed with it.
    """
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **_ENVIRONMENT, **_before(directory), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, f"no end within {RUN_TIMEOUT_S} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, output


# Python recognises a stale .pyc by seconds and size, and a mutant can have both in common with
# another.
_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "ASAN_OPTIONS": "detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def _before(directory: Path) -> dict[str, str]:
    """An installed fastun must not come before the copy's."""
    return {"PYTHONPATH": str(directory)}
