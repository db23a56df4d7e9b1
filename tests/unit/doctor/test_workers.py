"""`fastun doctor` on what a gateway's workers would be confined to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun import native
from fastun.host import users
from fastun.host.users import Users
from fastun.native import Confined
from tests.support.doctored_host import found

if TYPE_CHECKING:
    from fastun.doctor.finding import Subject

WHOLE = Confined(1000, 7, has_filter=True)
WITHOUT = Confined(1000, 0, has_filter=True, lacks=("Landlock (Operation not supported)",))


@pytest.mark.parametrize(
    ("confined", "user", "expected"),
    [
        (
            WHOLE,
            Users(61234, 61234),
            ("ok", "user 61234, no capabilities, seccomp, Landlock 7"),
        ),
        (
            WHOLE,
            Users(why="no"),
            (
                "ok",
                "user 1000, no capabilities, seccomp, Landlock 7; without a user of their own (no)",
            ),
        ),
        (
            WITHOUT,
            Users(61234, 61234),
            (
                "warn",
                "user 61234, no capabilities, seccomp; without Landlock (Operation not supported)",
            ),
        ),
    ],
)
def test_what_a_kernel_lacks_is_a_warning(
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    confined: Confined,
    user: Users,
    expected: tuple[str, str],
) -> None:
    monkeypatch.setattr(native, "probe_confinement", lambda: confined)
    monkeypatch.setattr(users, "choose", lambda: user)
    finding = found(subject, "workers")
    verdict, message = expected
    assert (finding.verdict, finding.message) == (verdict, f"confined: {message}")
    assert bool(finding.fix) == (verdict == "warn")


def test_the_probe_finds_what_this_kernel_has() -> None:
    found_here = native.probe_confinement()
    assert found_here.has_filter
    assert (found_here.landlock > 0) == (not found_here.lacks)
