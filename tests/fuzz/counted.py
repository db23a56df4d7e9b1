"""How many inputs the last run of each fuzz target had, as figures of docs/reliability.md.

    FASTUN_SOAK=1 FASTUN_FIGURES=tests/figures.jsonl python -m tests.fuzz.counted

Of the outputs of `make -C tests/native fuzz` and tests/fuzz/run.py, which name a target each.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.figures import ROOT, Figures, keep, promises

TEST = "test_every_python_function_that_takes_bytes_apart_runs_in_a_fuzz_target"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
OUTPUTS = (ROOT / "tests" / "native" / "build", ROOT / "build" / "fuzz")


def n_inputs(name: str) -> int:
    """Return how many a target had; 0: it has not run to its end."""
    outputs = [folder / f"{name}.log" for folder in OUTPUTS if (folder / f"{name}.log").exists()]
    text = "".join(each.read_text(errors="replace") for each in outputs)
    return sum(map(int, re.findall(r"executed_units:\s+(\d+)", text)))


def figures_of(counts: dict[str, int]) -> Figures:
    """Return what the page says of all targets."""
    figures = Figures()
    figures.worst("targets", len(counts), "")
    figures.total("inputs", sum(counts.values()))
    figures.worst("fewest of one", min(counts.values()), "")
    return figures


def main() -> None:
    """Keep the figures, once each target has run."""
    counts = {folder.name: n_inputs(folder.name) for folder in sorted(CORPUS.iterdir())}
    if missing := [name for name, n in counts.items() if n == 0]:
        sys.exit(f"fuzz: no count of {', '.join(missing)}; run make fuzz")
    for name, n in sorted(counts.items(), key=lambda each: each[1]):
        sys.stdout.write(f"{n:>12,} {name}\n")
    (promise,) = (each for each in promises(Path(ROOT, "tests/unit/house")) if each.test == TEST)
    keep(f"{promise.file}::{promise.test}", promise.text, figures_of(counts))


if __name__ == "__main__":
    main()
