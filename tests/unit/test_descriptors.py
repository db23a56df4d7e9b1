"""The limit of open files: raised to what is wanted, no further than allowed, and never lowered."""

from __future__ import annotations

import subprocess
import sys

import pytest

WANTED = 200


@pytest.mark.parametrize(
    ("soft", "hard", "raised"), [(100, 300, WANTED), (100, 150, 150), (250, 300, 250)]
)
def test_the_soft_limit_is_raised_as_far_as_it_helps_and_may(
    soft: int, hard: int, raised: int
) -> None:
    """In a process of its own, because a hard limit cannot be taken back."""
    program = f"""
import resource
from fastun import descriptors
descriptors.WANTED = {WANTED}
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
descriptors.allow()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(raised), str(hard)]
