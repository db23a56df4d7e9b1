"""The README and the pages of docs/ as scenes to be typed. docs/decisions is history."""

from __future__ import annotations

from typing import Final

from tests.support import guide_page
from tests.support.guide_lab import ROOT

PAGES: Final = {
    path: guide_page.read(path)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.parent != ROOT / "docs" / "decisions"
}

#: By test_containers.py, which needs an image, and test_fleet_guide.py, which needs a database.
ELSEWHERE: Final = ("podman", "fleet")


def scenes(*, guides: bool) -> dict[str, guide_page.Scene]:
    """Return the scenes of README and guides, or of the other pages, by their names.

    Those of ELSEWHERE are typed by tests that need more programs.
    """
    return {
        scene.name: scene
        for path, page in PAGES.items()
        for scene in page.scenes
        if scene.lab not in ELSEWHERE and (path.parent == ROOT / "docs") != guides
    }
