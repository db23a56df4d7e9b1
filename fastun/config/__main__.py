"""`python -m fastun.config` prints the manual page fastun.toml(5).

`... docs/configuration.md` renews the tables there.
"""

import sys
from pathlib import Path

from fastun.config.manual import manual
from fastun.config.reference import renewed

if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(manual(), end="")  # noqa: T201 (this is its output)
