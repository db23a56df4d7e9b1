"""Plain words of the field, everywhere: none of the phrases in retired_phrases.txt."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
WHERE = ("fastun/*.py", "csrc/*.[ch]", "bench/*.py", "bench/*.[ch]", "grafana/*.py", "*.md")
HISTORY = ("CHANGELOG.md", "docs/decisions")  # what was written then stays as it was
LINES = Path(__file__).with_name("retired_phrases.txt").read_text(encoding="utf-8").splitlines()
RETIRED = [re.split(r"\s+# ", line)[0] for line in LINES if line and not line.startswith("#")]


def test_nothing_is_said_in_retired_phrases() -> None:
    retired = re.compile("|".join(f"(?:{phrase})" for phrase in RETIRED))
    listed = subprocess.run(
        ["git", "ls-files", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    hits = []
    assert len(listed.stdout.splitlines()) > 200
    for name in listed.stdout.splitlines():
        if name.startswith(HISTORY) or not (ROOT / name).exists():
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").split("\n"), 1):
            if retired.search(line):
                hits.append(f"{name}:{number}: {line.strip()}")
    assert not hits, "\n".join(["", *hits])
