"""Turn each check round, one at a time, and see that a test fails.

    python tests/mutation/run.py [SUITE...] [-k TEXT] [--jobs N]

The checkout is copied to a temporary directory; there one mutant after another is put in, tested
up to the first test that fails, and taken out. A mutant that no test notices has survived: write
the test. Exit code 1 if there is one, or if a mutant cannot be judged.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from tests.mutation import (  # noqa: E402 (found through the line above)
    amplification,
    data_path,
    datagram_sessions,
    datagrams,
    endings,
    endpoints,
    gateway,
    hints,
    limits_data,
    limits_gateway,
    logs,
    neighbours,
    pushed_settings,
    session,
    super_packets,
    switches,
)
from tests.mutation.testing import BROKEN, KILLED, SURVIVED  # noqa: E402

if TYPE_CHECKING:
    from tests.mutation.mutant import Mutant, Suite

SUITES = (
    session.SUITE,
    gateway.SUITE,
    datagram_sessions.SUITE,
    data_path.SUITE,
    super_packets.SUITE,
    datagrams.SUITE,
    # One module a rule of SECURITY.md.
    *hints.SUITES,
    *amplification.SUITES,
    *switches.SUITES,
    *limits_data.SUITES,
    *limits_gateway.SUITES,
    *endpoints.SUITES,
    *pushed_settings.SUITES,
    *neighbours.SUITES,
    *endings.SUITES,
    *logs.SUITES,
)

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)


def mutate(mutant: Mutant, original: str) -> str:
    """Return the file's text with the mutant in it; ValueError where it has no place."""
    n_places = original.count(mutant.old)
    if n_places != 1:
        raise ValueError(f"{mutant.file} has {mutant.old!r} {n_places} times, not once")
    changed = original.replace(mutant.old, mutant.new)
    if mutant.file.endswith(".py"):
        try:
            compile(changed, mutant.file, "exec")
        except SyntaxError as error:
            raise ValueError(f"{mutant.file}: {error}") from None
    return changed


def judge(suite: Suite, mutant: Mutant, copy: Path) -> tuple[str, str]:
    """Put `mutant` into `copy`, return the verdict, and take it out again."""
    path = copy / mutant.file
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutate(mutant, original), encoding="utf-8")
        verdict, output = SURVIVED, ""
        for tests in (mutant.tests, suite.tests):
            if tests and verdict == SURVIVED:
                verdict, output = suite.run(tests, copy)
    except ValueError as error:
        return BROKEN, str(error)
    finally:
        path.write_text(original, encoding="utf-8")
    return verdict, output


def run_suite(suite: Suite, text: str, n_jobs: int) -> bool:
    """Judge the suite's mutants whose claim or file contains `text`; whether all were killed."""
    mutants = [mutant for mutant in suite.mutants if text in f"{mutant.file} {mutant.claim}"]
    with tempfile.TemporaryDirectory(prefix="fastun-mutation-") as directory:
        copies = [Path(directory) / str(number) for number in range(n_jobs)]
        shutil.copytree(CHECKOUT, copies[0], ignore=NOT_COPIED)
        named = [test for mutant in mutants for test in mutant.tests]
        verdict, output = suite.run(tuple(dict.fromkeys((*named, *suite.tests))), copies[0])
        if verdict != SURVIVED:
            _report(BROKEN, f"{suite.name}: the tests fail without any mutant\n{output}")
            return False
        for copy in copies[1:]:  # with what has just been built
            shutil.copytree(copies[0], copy)
        verdicts = _judge_all(suite, mutants, copies)
    _report(suite.name, ", ".join(f"{verdicts.count(v)} {v}" for v in (KILLED, SURVIVED, BROKEN)))
    return verdicts.count(KILLED) == len(mutants)


def _judge_all(suite: Suite, mutants: list[Mutant], copies: list[Path]) -> list[str]:
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def judge_in_a_free_copy(mutant: Mutant) -> str:
        copy = free.get()
        try:
            verdict, output = judge(suite, mutant, copy)
        finally:
            free.put(copy)
        _report(verdict, f"{mutant.file}: {mutant.claim}")
        if verdict == BROKEN:
            _report("", "\n".join(output.splitlines()[-10:]))
        return verdict

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(judge_in_a_free_copy, mutants))


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
