"""The README and the guides do what they say, command by command.

guide_page.py has the form of a page, guide_lab.py the hosts. The other pages: test_reference_pages.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import guide_page
from tests.support.guide_lab import ROOT, GuideLab
from tests.support.guide_page import Command, PageError
from tests.support.guides import ELSEWHERE, PAGES, scenes

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

SCENES = scenes(guides=True)


@pytest.mark.parametrize("name", SCENES)
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(
    name: str, lab: Lab, tmp_path: Path
) -> None:
    GuideLab(lab, SCENES[name].lab, tmp_path).follow(SCENES[name])


def test_few_commands_are_not_run_and_each_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = [reason for page in PAGES.values() for _, reason in page.left_out]
    run = (*SCENES.values(), *scenes(guides=False).values())
    all_scenes = [scene for page in PAGES.values() for scene in page.scenes]
    assert len(run) == sum(scene.lab not in ELSEWHERE for scene in all_scenes)  # no two of one name
    n_run = sum(isinstance(step, Command) for scene in run for step in scene.steps)
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


@pytest.mark.parametrize(
    ("expected", "is_in"),
    [
        ([], True),
        (["ok    our key ..."], True),
        (["...", "1 warning", "..."], True),
        (["fastun ...", "ok ... key", "...", "1 warn..."], True),
        (["1 warning", "...", "fastun"], False),
        (["ok ... port"], False),
    ],
)
def test_what_is_expected_must_come_in_its_order(expected: list[str], *, is_in: bool) -> None:
    output = "fastun 0.1.0\n\nok    our key        abc=\n1 warning\n"
    assert Command("server", "fastun doctor", "page.md:1", expected).is_in(output) == is_in
