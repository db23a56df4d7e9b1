"""The README and every page of docs/guide do what they say, command by command.

guide_page.py has the form of a page, guide_lab.py the hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import guide_page
from tests.support.guide_lab import ROOT, GuideLab
from tests.support.guide_page import Command, Scene

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

PAGES = [
    guide_page.read(path)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")))
]
# Those with podman are typed by test_containers.py, which needs an image.
SCENES = [scene for page in PAGES for scene in page.scenes if scene.lab != "podman"]
# How many commands are not run, for each reason that a page gives.
LEFT_OUT = {
    "an app's camera is not at hand": 2,
    "it would end the page's server": 1,
    "an image takes minutes to build; test_containers.py has one": 1,
    "these hosts have no systemd": 7,
}


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(
    scene: Scene, lab: Lab, tmp_path: Path
) -> None:
    GuideLab(lab, scene.lab, tmp_path).follow(scene)


def test_few_commands_are_not_run_and_each_says_why() -> None:
    reasons = [reason for page in PAGES for _, reason in page.left_out]
    assert {reason: reasons.count(reason) for reason in reasons} == LEFT_OUT
    n_run = sum(isinstance(step, Command) for scene in SCENES for step in scene.steps)
    assert n_run > 10 * len(reasons)
