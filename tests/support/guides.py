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


def scenes(*, guides: bool) -> dict[str, guide_page.Scene]:
    """Return the scenes of README and guides, or of the other pages, by their names.

    Those with podman are typed by test_containers.py, which needs an image.
    """
    return {
        scene.name: scene
        for path, page in PAGES.items()
        for scene in page.scenes
        if scene.lab != "podman" and (path.parent == ROOT / "docs") != guides
    }
