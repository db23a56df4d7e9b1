"""The pages of docs/ that one looks things up in do what they say, as test_guides.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.guide_lab import GuideLab
from tests.support.guides import scenes

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

SCENES = scenes(guides=False)


@pytest.mark.parametrize("name", SCENES)
def test_commands_of_the_reference_do_what_it_says(name: str, lab: Lab, tmp_path: Path) -> None:
    GuideLab(lab, SCENES[name].lab, tmp_path).follow(SCENES[name])
