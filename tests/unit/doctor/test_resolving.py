"""What doctor says of DNS: of a client that runs, and of a host without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fastun.doctor import resolving
from fastun.host.dns import resolver
from fastun.status.reply import DnsStatus


def subject(*all_dns: DnsStatus | None) -> Any:
    return SimpleNamespace(gateways=[SimpleNamespace(dns=dns) for dns in all_dns])


def dns(fault: str = "") -> DnsStatus:
    return DnsStatus(
        servers=["10.9.0.1"],
        domains=["corp.example"],
        manager="systemd-resolved",
        is_checked=True,
        fault=fault,
    )


def settings(*search: str) -> Any:
    return SimpleNamespace(dns_search=search)


def test_servers_that_do_not_answer_are_a_failure() -> None:
    bad = dns("10.9.0.1 does not answer")
    found = resolving.check(subject(None, dns(), bad))
    assert (found.verdict, found.message) == ("FAIL", "10.9.0.1: 10.9.0.1 does not answer")
    gateway: Any = SimpleNamespace(dns=bad)
    assert resolving.dns_of(settings(), gateway).verdict == "FAIL"
    assert resolving.check(subject(None, dns())).message == "10.9.0.1 by systemd-resolved"


@pytest.mark.parametrize(
    ("manager", "split", "verdict"),
    [("resolvectl", True, "ok"), ("resolvconf", True, "warn"), ("file", False, "ok")],
)
def test_split_dns_needs_systemd_resolved(
    monkeypatch: pytest.MonkeyPatch, manager: str, split: bool, verdict: str
) -> None:
    monkeypatch.setattr(resolver, "manager", lambda: manager)
    search = ("~corp.example",) if split else ("corp.example",)
    assert resolving.dns_of(settings(*search), None).verdict == verdict
    found = resolving.check(subject(None))
    assert ("needs systemd-resolved" in found.message) == (manager != "resolvectl")
