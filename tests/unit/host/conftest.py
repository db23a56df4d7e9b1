"""A journal, a kernel and settings of a test's own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import ending, log
from fastun.host import reconcile, settings_of_host
from fastun.host.journal import sysctls
from fastun.host.journal.changes import AnyChange, Dns, NftTable, RoutingRules
from fastun.host.journal.journal import Journal
from fastun.host.routing import routing_rules
from tests.support.fake_kernel import ETH0, LAN, NAMES, FakeKernel
from tests.support.journals import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting that is 0, below a /proc/sys of this test's own."""
    monkeypatch.setattr(sysctls, "_PROC_SYS", tmp_path / "proc")
    path = tmp_path / "proc" / NAME
    path.parent.mkdir(parents=True)
    path.write_text("0\n")
    return path


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[tuple[AnyChange, bool]]:
    """What is undone of the kinds that need a kernel, and whether its owner had died."""
    record: list[tuple[AnyChange, bool]] = []

    def undo(change: AnyChange, limit_s: float, *, owner_died: bool) -> None:
        assert 0 < limit_s <= change.limit_s
        record.append((change, owner_died))

    for kind in (RoutingRules, NftTable, Dns):
        monkeypatch.setattr(kind, "undo", undo)
    return record


@pytest.fixture
def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The signals that have asked fastun to stop."""
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    return asked


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """A host with a LAN, a way out, and the device of the tunnel."""
    kernel = FakeKernel()
    for name in ("IPRoute", "Kernel"):
        monkeypatch.setattr(reconcile, name, kernel)
    monkeypatch.setattr(routing_rules, "has_routes", kernel.has_routes)
    monkeypatch.setattr(socket, "if_nametoindex", NAMES.__getitem__)
    monkeypatch.setattr(
        socket, "if_indextoname", {index: name for name, index in NAMES.items()}.__getitem__
    )
    monkeypatch.setattr(settings_of_host, "apply", lambda *_: [])
    kernel.have_address("198.18.0.2/24", ETH0)
    kernel.have_route("198.18.0.0/24", ETH0)
    kernel.have_route("0.0.0.0/0", ETH0)
    kernel.have_address("192.168.77.2/24", LAN)
    kernel.have_address("fd77::2/64", LAN)
    kernel.have_address("fe80::1/64", LAN)
    kernel.have_route("192.168.77.0/24", LAN)
    kernel.have_route("fe80::/64", LAN)
    log.configure("console", 0)
    yield kernel
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state", "fastun0")
