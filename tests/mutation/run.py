"""Change one line at a time, and see that a test fails.

    python -m tests.mutation.run --base COMMIT      the lines changed since then
    python -m tests.mutation.run PATH...            files or folders of csrc and fastun
    python -m tests.mutation.run --security         the list in tests/mutation, --part I/N of it

The checkout is copied to a temporary directory, once a processor; there one mutant after another
is tested up to the first test that fails. A mutant that no test notices has survived: write the
test, or see that the code is not needed. Exit code 1 if there is one. The tests run without a
change first: one that fails anyway would seem to notice every mutant.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import queue
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutation import security
from tests.mutation.covering import with_tests
from tests.mutation.generated import FOLDERS, changed_lines, mutants_of, sources_below
from tests.mutation.testing import BROKEN, KILLED, SURVIVED, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mutation.mutant import Mutant

CHECKOUT = Path(__file__).resolve().parents[2]

# The objects of tests/native are copied: make sees by their times that they are up to date.
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "results", "corpus"
)


def judge_all(
    mutants: list[Mutant], *, covered: bool, report: Callable[[Mutant, str, str], None]
) -> list[str]:
    """Judge mutants in copies of the checkout, one a processor; return the verdicts in order.

    Raises RuntimeError if their tests fail without a change.
    """
    with tempfile.TemporaryDirectory(prefix="fastun-mutation-") as directory:
        copies = [Path(directory) / str(number) for number in range(os.cpu_count() or 1)]
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for copy in copies:
            shutil.copytree(CHECKOUT, copy, ignore=_NOT_COPIED, symlinks=True)
            free.put(copy)
        if not covered:
            mutants = with_tests(mutants, copies[0])

        def judge(mutant: Mutant) -> tuple[str, str]:
            copy = free.get()
            try:
                return _judge(mutant, copy)
            finally:
                free.put(copy)

        def judge_and_report(mutant: Mutant) -> str:
            verdict, output = judge(mutant)
            report(mutant, verdict, output)
            return verdict

        with ThreadPoolExecutor(len(copies)) as pool:
            unchanged = list(without_changes(mutants, CHECKOUT))
            verdicts = zip(unchanged, pool.map(judge, unchanged), strict=True)
            # Some wait for the clock, and need the processors for themselves.
            again = [mutant for mutant, (verdict, _) in verdicts if verdict != SURVIVED]
            failed = [
                f"{' '.join((*mutant.native, *mutant.python))}: {output[-2000:]}"
                for mutant, (verdict, output) in zip(again, map(judge, again), strict=True)
                if verdict != SURVIVED
            ]
            if failed:
                raise RuntimeError("\n".join(["a test fails without a change:", *failed]))
            return list(pool.map(judge_and_report, mutants))


def without_changes(mutants: list[Mutant], checkout: Path) -> Iterator[Mutant]:
    """For each of the tests, yield one of its mutants without the change."""
    native = {test: mutant for mutant in mutants for test in mutant.native}
    python = {test: mutant for mutant in mutants for test in mutant.python}
    for test, mutant in native.items():
        text = (checkout / mutant.path).read_text(encoding="utf-8")
        yield dataclasses.replace(mutant, text=text, native=(test,), python=())
    for test, mutant in python.items():
        text = (checkout / mutant.path).read_text(encoding="utf-8")
        yield dataclasses.replace(mutant, text=text, native=(), python=(test,))


def _judge(mutant: Mutant, copy: Path) -> tuple[str, str]:
    path = copy / mutant.path
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.text, encoding="utf-8")
        return verdict_of(mutant, copy)
    finally:
        path.write_text(original, encoding="utf-8")


class Progress:
    """Prints each verdict with how far the run is."""

    def __init__(self, n_mutants: int, *, verbose: bool) -> None:
        """Expect so many; `verbose` prints those that were killed, too."""
        self._n_mutants = n_mutants
        self._verbose = verbose
        self._n_done = 0
        self._started_s = time.monotonic()

    def note(self, mutant: Mutant, verdict: str, output: str) -> None:
        """Print one verdict."""
        self._n_done += 1
        if verdict == SURVIVED or self._verbose:
            say(f"{verdict:8} {mutant.place}: {mutant.change}")
        if verdict == SURVIVED:
            tests = " ".join((*mutant.native, *mutant.python)) or output
            say(f"         tests: {tests}")
        elif verdict == BROKEN and self._verbose:
            say("\n".join(output.splitlines()[-5:]))
        if self._n_done % 10 == 0 or self._n_done == self._n_mutants:
            passed_s = time.monotonic() - self._started_s
            left_s = passed_s / self._n_done * (self._n_mutants - self._n_done)
            say(f"  {self._n_done} of {self._n_mutants}, {passed_s:.0f} s, {left_s:.0f} s left")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 (what the person asked for)


def main() -> int:
    """Judge what the arguments name."""
    parser = argparse.ArgumentParser(description="Change one line at a time; a test must fail.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files or folders to mutate")
    parser.add_argument("--base", metavar="COMMIT", help="mutate the lines changed since COMMIT")
    parser.add_argument("--security", action="store_true", help="judge the security mutants")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only every Nth, from the Ith")
    parser.add_argument("--list", action="store_true", help="print the mutants and end")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every verdict")
    arguments = parser.parse_args()
    mutants = chosen(parser, arguments)
    index, n_parts = (int(number) for number in arguments.part.split("/"))
    mutants = mutants[index % n_parts :: n_parts]
    if arguments.list:
        say("\n".join(f"{mutant.place}: {mutant.change}" for mutant in mutants))
        return 0
    say(f"{len(mutants)} mutants")
    progress = Progress(len(mutants), verbose=arguments.verbose)
    try:
        verdicts = judge_all(mutants, covered=arguments.security, report=progress.note)
    except RuntimeError as error:
        say(str(error))
        return 1
    say(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (KILLED, SURVIVED, BROKEN)))
    failed = {SURVIVED, BROKEN} if arguments.security else {SURVIVED}
    return 1 if failed & set(verdicts) else 0


def chosen(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the arguments name."""
    if arguments.security:
        return security.mutants(CHECKOUT)
    if arguments.base:
        lines = changed_lines(CHECKOUT, arguments.base)
        return [mutant for path in lines for mutant in mutants_of(CHECKOUT, path, lines[path])]
    paths = [file for path in arguments.paths for file in sources_below(CHECKOUT, path)]
    if not paths or not all(path.startswith(FOLDERS) for path in paths):
        parser.error("name a file or folder of csrc or fastun, or --base COMMIT")
    return [mutant for path in paths for mutant in mutants_of(CHECKOUT, path, None)]


if __name__ == "__main__":
    sys.exit(main())
