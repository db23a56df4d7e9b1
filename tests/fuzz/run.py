"""Runs the fuzz targets of Python code.

    python -m tests.fuzz.run [--seconds S] [--runs N] [--keep] [TARGET ...]

Each in a process of its own, as many at once as there are processors, by atheris (libFuzzer, guided
by the coverage of fastun). It begins with the inputs kept in corpus/TARGET. What it finds beside
them is in build/fuzz/TARGET; --keep adds to the kept ones the smallest set that covers the same.
An input that fails is named; in corpus/TARGET, as regression-WHAT, it is a regression test.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import sys
from pathlib import Path

try:
    import atheris
except ImportError:  # no wheel for this processor or this Python
    sys.exit("fuzz: no atheris here, so the targets of Python code do not run: pip install atheris")

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE.parents[1] / "build" / "fuzz"
AGAIN = "--again"
INPUT_BYTES_MAX, INPUT_SECONDS_MAX = 16384, 10

with (
    contextlib.redirect_stderr(io.StringIO()),  # it names every module
    atheris.instrument_imports(include=["fastun"]),
):
    from fastun import log
    from tests.fuzz.all_targets import TARGETS


def fuzz(name: str, arguments: list[str]) -> None:
    """Become the fuzzer of a target, whose output goes to a file. Does not return."""
    output = os.open(FOUND / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    log.configure("console", -1)
    options = [
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={FOUND}/{name}-",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    # To merge, libFuzzer runs the first word again by a shell.
    again = f"{sys.executable} -m tests.fuzz.run {AGAIN} {name}"
    atheris.Setup([again, *options, *arguments], TARGETS[name])
    atheris.Fuzz()


def begin(name: str, arguments: list[str]) -> int:
    """Fuzz a target in a new process; return its ID."""
    for folder in (FOUND / name, CORPUS / name):
        folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        fuzz(name, arguments)
        os._exit(1)
    return pid


def said(name: str) -> tuple[str, str]:
    """Return how many inputs it had, and its whole output."""
    text = (FOUND / f"{name}.log").read_text(errors="replace")
    count = re.search(r"executed_units:\s+(\d+)", text)
    return f"{int(count[1]):,}" if count else "no", text


def fuzz_all(names: list[str], limits: list[str]) -> bool:
    """Fuzz each; return whether nothing was found."""
    waiting, running, is_clean = list(names), dict[int, str](), True
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            name = waiting.pop(0)
            folders = [str(FOUND / name), str(CORPUS / name)]
            running[begin(name, [*limits, *folders])] = name
        pid, status = os.waitpid(-1, 0)
        name = running.pop(pid)
        n_inputs, text = said(name)
        if status:
            is_clean = False
            sys.stdout.write(f"{text[-4000:]}\n{name}: FAILED\n")
        else:
            sys.stdout.write(f"{name}: {n_inputs} inputs, nothing found\n")
        sys.stdout.flush()
    return is_clean


def keep(names: list[str]) -> None:
    """Replace the kept inputs by the smallest set that covers what all known ones cover."""
    for name in names:
        merged = FOUND / f"{name}.merged"
        shutil.rmtree(merged, ignore_errors=True)
        merged.mkdir(parents=True)
        known = [str(FOUND / name), str(CORPUS / name)]
        _, status = os.waitpid(begin(name, ["-merge=1", str(merged), *known]), 0)
        if status == 0 and any(merged.iterdir()):
            for file in (CORPUS / name).glob("*"):
                if not file.name.startswith(("seed-", "regression-")):
                    file.unlink()
            for file in merged.iterdir():
                shutil.copy(file, CORPUS / name / file.name[:12])


def main() -> None:
    """Do what the arguments say."""
    if sys.argv[1:2] == [AGAIN]:
        log.configure("console", -1)
        atheris.Setup(sys.argv[2:], TARGETS[sys.argv[2]])
        atheris.Fuzz()
    parser = argparse.ArgumentParser(description="Run the fuzz targets of Python code.")
    parser.add_argument("--seconds", type=int, default=10, help="at most, for each; 0: any")
    parser.add_argument("--runs", type=int, default=-1, help="inputs at most, for each; -1: any")
    parser.add_argument("--keep", action="store_true", help="add what was found to the kept inputs")
    parser.add_argument("targets", nargs="*", default=sorted(TARGETS), metavar="TARGET")
    options = parser.parse_args()
    limits = [f"-runs={options.runs}", f"-max_total_time={options.seconds}"]
    if options.keep:
        keep(options.targets)
    elif not fuzz_all(options.targets, limits):
        sys.exit(1)


if __name__ == "__main__":
    main()
