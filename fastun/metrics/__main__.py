"""`python -m fastun.metrics` prints the tables of docs/metrics.md; `... FILE` renews them there."""

import sys
from pathlib import Path

from fastun.metrics.tables import markdown, markdown_of_drops, renewed

if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(markdown(), markdown_of_drops(), sep="\n\n")  # noqa: T201 (this is its output)
