"""Plain words of the field, everywhere: none of the phrases in retired_phrases.txt."""

import re
import subprocess
from collections import defaultdict
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[3]
WHERE = ("fastun/*.py", "csrc/*.[ch]", "bench/*.py", "bench/*.[ch]", "grafana/*.py", "*.md")
HISTORY = ("CHANGELOG.md", "docs/decisions")  # what was written then stays as it was
# Folders that are being rewritten elsewhere; each goes when it has no hit left.
UNREVISED = frozenset(
    {
        ".",
        "csrc",
        "csrc/host",
        "csrc/inbound",
        "csrc/loop",
        "csrc/outbound",
        "csrc/packet",
        "csrc/session",
        "csrc/shared",
        "csrc/worker",
        "fastun/gateway",
        "fastun/lab",
        "fastun/lane",
        "fastun/link",
        "fastun/link/datagram",
        "fastun/link/stream",
        "fastun/native",
        "grafana",
    }
)

LINES = Path(__file__).with_name("retired_phrases.txt").read_text(encoding="utf-8").splitlines()
RETIRED = [re.split(r"\s+# ", line)[0] for line in LINES if line and not line.startswith("#")]


def test_nothing_is_said_in_retired_phrases() -> None:
    retired = re.compile("|".join(f"(?:{phrase})" for phrase in RETIRED))
    listed = subprocess.run(
        ["git", "ls-files", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    hits: dict[str, list[str]] = defaultdict(list)
    for name in listed.stdout.splitlines():
        if name.startswith(HISTORY) or not (ROOT / name).exists():
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").split("\n"), 1):
            if retired.search(line):
                hits[str(PurePosixPath(name).parent)].append(f"{name}:{number}: {line.strip()}")
    found = [hit for folder, some in hits.items() if folder not in UNREVISED for hit in some]
    assert not found, "\n".join(["", *found])
    assert hits.keys() >= UNREVISED, "folders that need no exception any more"
