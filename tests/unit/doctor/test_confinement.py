"""`fastun doctor` on what a gateway would be confined to, and what its host process would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun import import_paths, native
from fastun.doctor import confinement
from fastun.host import users
from fastun.host.users import Users
from fastun.native import Confined
from tests.support.doctored_host import found

if TYPE_CHECKING:
    from fastun.doctor.finding import Subject

OWN = Users(61234, 61234, 61235)
NO_LANDLOCK = "Landlock (Operation not supported)"


@pytest.mark.parametrize(
    ("confined", "user", "said"),
    [
        (Confined(0, 7, has_filter=True), OWN, "user 61235, no capabilities, seccomp, "),
        (Confined(7, 6, has_filter=True), Users(why="no"), "; without a user of its own (no"),
        (Confined(0, 5, has_filter=True), OWN, "; without Landlock for abstract sockets (L"),
        (Confined(0, 3, has_filter=True), OWN, "; without Landlock for TCP ports (Linux 6.7"),
        (Confined(0, 0, has_filter=True, lacks=(NO_LANDLOCK,)), OWN, "; without Landlock"),
    ],
)
def test_what_a_gateway_lacks_is_said(
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    confined: Confined,
    user: Users,
    said: str,
) -> None:
    monkeypatch.setattr(native, "probe_confinement", lambda: confined)
    monkeypatch.setattr(users, "choose", lambda: user)
    monkeypatch.setattr(import_paths, "open_to_others", lambda: True)
    finding, verdict = found(subject, "gateway"), "warn" if confined.lacks else "ok"
    assert finding.verdict == verdict
    assert said in finding.message
    assert bool(finding.fix) == (verdict == "warn")


def test_a_python_that_others_cannot_read_is_named(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "choose", lambda: OWN)
    monkeypatch.setattr(import_paths, "open_to_others", lambda: False)
    assert "a user of its own (only this one may read /" in found(subject, "gateway").message


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ((1 << 41) - 1, "keeps the start's 41 capabilities"),
        (1 << 12, "keeps the start's 1 capability; without CAP_NET_BIND_SERVICE: ports "),
        (0, "has no capability; without CAP_NET_BIND_SERVICE: "),
    ],
)
def test_what_the_host_process_would_keep_is_said(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, held: int, said: str
) -> None:
    monkeypatch.setattr(confinement, "capabilities", lambda: held)
    assert found(subject, "host process").message.startswith(said)
