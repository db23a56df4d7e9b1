"""Plain words of the field, everywhere: none of the phrases in retired_phrases.txt."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
WHERE = ("fastun/*.py", "csrc/*.[ch]", "bench/*.py", "bench/*.[ch]", "grafana/*.py", "*.md")
HISTORY = ("CHANGELOG.md", "docs/decisions")  # what was written then stays as it was
LINES = Path(__file__).with_name("retired_phrases.txt").read_text(encoding="utf-8").splitlines()
RETIRED = [re.split(r"\s+# ", line)[0] for line in LINES if line and not line.startswith("#")]


RETIRED_PHRASE = re.compile("|".join(f"(?:{phrase})" for phrase in RETIRED))


def lines_of(*where: str) -> list[tuple[str, str]]:
    """Return each line of the files with where it is."""
    listed = subprocess.run(
        ["git", "ls-files", *where], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout
    return [
        (f"{name}:{number}", line.strip())
        for name in listed.stdout.splitlines()
        if not name.startswith(HISTORY) and (ROOT / name).exists()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").split("\n"), 1)
    ]


def test_nothing_is_said_in_retired_phrases() -> None:
    lines = lines_of(*WHERE)
    assert len({at.partition(":")[0] for at, _ in lines}) > 200
    hits = [f"{at}: {line}" for at, line in lines if RETIRED_PHRASE.search(line)]
    assert not hits, "\n".join(["", *hits])


def test_nothing_is_claimed_in_retired_phrases_by_the_native_tests() -> None:
    lines = lines_of("tests/native/*.[ch]")
    claims = [(at, line.replace("_", " ")) for at, line in lines if line.startswith("RUN(")]
    assert claims
    hits = [f"{at}: {line}" for at, line in lines + claims if RETIRED_PHRASE.search(line)]
    assert not hits, "\n".join(["", *hits])


def test_no_test_is_named_in_retired_phrases() -> None:
    names = [
        (at, line.replace("_", " "))
        for at, line in lines_of("tests/*.py")
        if re.match(r"(async )?def test_", line)
    ]
    assert len(names) > 1000
    hits = [f"{at}: {line}" for at, line in names if RETIRED_PHRASE.search(line)]
    assert not hits, "\n".join(["", *hits])
