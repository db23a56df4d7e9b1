"""docs/fleet.md does what it says, command by command: PostgreSQL, three gateways, each recipe.

By hand (make soak): a minute, and Debian's postgresql, bird2, frr and keepalived.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import guide_page
from tests.support.guide_lab import ROOT, GuideLab

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

PAGE = guide_page.read(ROOT / "docs" / "fleet.md")
PROGRAMS = {
    "pg_createcluster": "postgresql",
    "bird": "bird2",
    "vtysh": "frr",
    "keepalived": "keepalived",
    "curl": "curl",
}


@pytest.mark.parametrize("scene", PAGE.scenes, ids=[scene.name for scene in PAGE.scenes])
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(
    scene: guide_page.Scene, lab: Lab, tmp_path: Path
) -> None:
    missing = [each for each in PROGRAMS if shutil.which(each, path="/usr/sbin:/usr/bin") is None]
    if missing:
        pytest.skip(f"needs {missing[0]} (Debian package {PROGRAMS[missing[0]]})")
    GuideLab(lab, "fleet", tmp_path).follow(scene)
