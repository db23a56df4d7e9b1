"""How findings are printed: a finding a line with its fix below, or as JSON."""

from __future__ import annotations

import json
import platform
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from fastun import __version__
from fastun.doctor.finding import Finding, Verdict
from fastun.errors import one_line

# A verdict in the last line (for one and for several), and at the head of its own.
_SUMMARY: dict[Verdict, tuple[str, str]] = {
    "FAIL": ("failed", "failed"),
    "warn": ("warning", "warnings"),
    "unknown": ("not checked", "not checked"),
}
_MARKS: dict[Verdict, str] = {"ok": "ok", "warn": "warn", "FAIL": "FAIL", "unknown": "?"}

_COLUMNS = 80
_INDENT = " " * 21


def show(found: Iterable[Finding], *, as_json: bool) -> int:
    """Print the findings; return the exit code: 0, or 1 when one is FAIL."""
    findings = list(found)
    failed = any(each.verdict == "FAIL" for each in findings)
    if as_json:
        report = {
            "version": __version__,
            "ok": not failed,
            "findings": [asdict(each) for each in findings],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return int(failed)
    sys.stdout.write(f"fastun {__version__}, Python {platform.python_version()}\n\n")
    for each in findings:
        sys.stdout.writelines(f"{line}\n" for line in _lines(each))
    sys.stdout.write(f"\n{_summary(findings)}\n")
    return int(failed)


def _lines(each: Finding) -> Iterator[str]:
    head = f"{_MARKS[each.verdict]:<6}{each.check:<15}"
    for text in (each.message, *([f"fix: {each.fix}"] if each.fix else [])):
        yield from textwrap.wrap(
            one_line(text),
            _COLUMNS,
            initial_indent=head,
            subsequent_indent=_INDENT,
            break_on_hyphens=False,
        )
        head = _INDENT


def _summary(findings: list[Finding]) -> str:
    counts = Counter(each.verdict for each in findings)
    words = [
        f"{counts[verdict]} {one if counts[verdict] == 1 else several}"
        for verdict, (one, several) in _SUMMARY.items()
        if counts[verdict]
    ]
    return ", ".join(words) or "all checks passed"
