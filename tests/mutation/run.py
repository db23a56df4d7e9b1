"""Turn each check round, one at a time, and see that a test fails.

    python tests/mutation/run.py [SUITE...] [-k TEXT] [--jobs N]

The checkout is copied to a temporary directory; there one mutant after another is put in, built if
its suite says how, tested with `pytest -x -q` and taken out. A mutant that no test notices has
survived: write the test. Exit code 1 if there is one, or if a mutant cannot be judged.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from tests.mutation import session  # noqa: E402 (found through the line above)

if TYPE_CHECKING:
    from tests.mutation.mutant import Mutant, Suite

SUITES = (session.SUITE,)

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)
TIMEOUT_S = 300  # a mutant that makes the tests hang is noticed, too
# Python tells a stale .pyc by seconds and size, and a mutant can have both in common with another.
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"
_PYTEST_ALL_PASSED, _PYTEST_SOME_FAILED = 0, 1


def run_tests(suite: Suite, copy: Path) -> tuple[str, str]:
    """Return the verdict on what stands in `copy`, and the last lines that were printed."""
    if suite.build:
        build = _run([*suite.build], copy)
        if build.returncode:
            return BROKEN, build.stdout
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suite.tests]
    try:
        tests = _run(pytest, copy)
    except subprocess.TimeoutExpired:
        return KILLED, f"no end within {TIMEOUT_S} s"
    verdicts = {_PYTEST_ALL_PASSED: SURVIVED, _PYTEST_SOME_FAILED: KILLED}
    return verdicts.get(tests.returncode, BROKEN), tests.stdout


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def judge(suite: Suite, mutant: Mutant, copy: Path) -> tuple[str, str]:
    """Put `mutant` into `copy`, return the verdict, and take it out again."""
    path = copy / mutant.file
    original = path.read_text(encoding="utf-8")
    n_places = original.count(mutant.old)
    if n_places != 1:
        return BROKEN, f"{mutant.file} has {mutant.old!r} {n_places} times, not once"
    changed = original.replace(mutant.old, mutant.new)
    try:
        if path.suffix == ".py":
            compile(changed, mutant.file, "exec")
    except SyntaxError as error:
        return BROKEN, f"{mutant.file}: {error}"
    path.write_text(changed, encoding="utf-8")
    try:
        return run_tests(suite, copy)
    finally:
        path.write_text(original, encoding="utf-8")


def run_suite(suite: Suite, text: str, n_jobs: int) -> bool:
    """Judge the suite's mutants whose claim or file contains `text`; whether all were killed."""
    mutants = [mutant for mutant in suite.mutants if text in f"{mutant.file} {mutant.claim}"]
    with tempfile.TemporaryDirectory(prefix="fastun-mutation-") as directory:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(n_jobs):
            copy = Path(directory) / str(number)
            shutil.copytree(CHECKOUT, copy, ignore=NOT_COPIED)
            copies.put(copy)

        def judge_in_a_free_copy(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                verdict, output = judge(suite, mutant, copy)
            finally:
                copies.put(copy)
            _report(verdict, f"{mutant.file}: {mutant.claim}")
            if verdict == BROKEN:
                _report("", "\n".join(output.splitlines()[-10:]))
            return verdict

        verdict, output = run_tests(suite, Path(directory) / "0")
        if verdict != SURVIVED:
            _report(BROKEN, f"{suite.name}: the tests fail without any mutant\n{output}")
            return False
        with ThreadPoolExecutor(n_jobs) as pool:
            verdicts = list(pool.map(judge_in_a_free_copy, mutants))
    _report(suite.name, ", ".join(f"{verdicts.count(v)} {v}" for v in (KILLED, SURVIVED, BROKEN)))
    return verdicts.count(KILLED) == len(mutants)


def _report(label: str, text: str) -> None:
    print(f"{label:9} {text}", flush=True)  # noqa: T201 (what the person asked for)


def main() -> int:
    """Run the suites that are named, or all."""
    parser = argparse.ArgumentParser(description="Turn each check round; a test must fail.")
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of: {', '.join(names)}")
    parser.add_argument("-k", default="", metavar="TEXT", help="only mutants that mention TEXT")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(names):
        parser.error(f"no suite {', '.join(sorted(unknown))}")
    started_s = time.monotonic()
    results = [
        run_suite(suite, arguments.k, arguments.jobs)
        for suite in SUITES
        if not arguments.suites or suite.name in arguments.suites
    ]
    _report("", f"{time.monotonic() - started_s:.0f} s")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
