"""The README and every page of docs/ do what they say, command by command.

guide_page.py has the form of a page, guide_lab.py the hosts. docs/decisions is history.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import guide_page
from tests.support.guide_lab import ROOT, GuideLab
from tests.support.guide_page import Command, PageError, Scene

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

PAGES = [
    guide_page.read(path)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.parent.name != "decisions"
]
# Those with podman are typed by test_containers.py, which needs an image.
SCENES = [scene for page in PAGES for scene in page.scenes if scene.lab != "podman"]


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(
    scene: Scene, lab: Lab, tmp_path: Path
) -> None:
    GuideLab(lab, scene.lab, tmp_path).follow(scene)


def test_few_commands_are_not_run_and_each_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [reason for page in PAGES for _, reason in page.left_out]
    n_run = sum(isinstance(step, Command) for scene in SCENES for step in scene.steps)
    with capsys.disabled():
        sys.stdout.write(f"\n{n_run} commands of the documentation are run, {len(reasons)} not:\n")
        for reason in dict.fromkeys(reasons):
            sys.stdout.write(f"  {reasons.count(reason)}: {reason}\n")
    for reason in reasons:
        assert len(reason.split()) > 2
        assert all((ROOT / path).exists() for path in re.findall(r"tests/\S+\.py", reason)), reason
    assert n_run > 4 * len(reasons)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```sh\nfastun status\n```\n", "a block 'sh'"),
        ("```\n./run demo\n```\n", "a block ''"),
        ("```console\nserver# fastun status\n```\n", "no lab above it"),
        ("<!-- lab: office -->\n```console\n$ fastun status\n```\n", "at which host"),
        ("<!-- not run: it is late -->\n", "without one behind it"),
    ],
)
def test_a_command_that_would_be_passed_over_is_an_error(
    text: str, fault: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PageError, match=re.escape(fault)):
        guide_page.read(page)
