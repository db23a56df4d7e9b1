"""`fastun status --ready` says what /readyz says, and its exit code is what a supervisor reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from msgspec import structs

from fastun.command.cli import cli
from fastun.errors import RuntimeFailure
from fastun.status import control, readiness
from fastun.status.reply import DnsStatus
from tests.support.control_socket import INTERFACE, serving

if TYPE_CHECKING:
    from pathlib import Path

DNS_FAULT = DnsStatus(
    servers=["10.9.0.1"],
    domains=[],
    manager="resolvconf",
    is_checked=True,
    fault="10.9.0.1 does not answer",
)


def _answer_with(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    ask = control.request
    monkeypatch.setattr(
        control, "request", lambda path, what: structs.replace(ask(path, what), **changes)
    )


def test_a_gateway_says_itself_why_no_traffic_can_pass(tmp_path: Path) -> None:
    with serving(tmp_path) as path:
        reply = control.request(path, "status")
        with pytest.raises(RuntimeFailure) as error:
            readiness.show(INTERFACE, tmp_path)
    assert reply.not_ready  # no worker of this one has started
    assert str(error.value) == f"{INTERFACE} is not ready: {reply.not_ready}"


def test_the_exit_code_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["status", "--ready", "--run-dir", str(tmp_path)]
    with serving(tmp_path):
        not_ready = CliRunner().invoke(cli, command)
        _answer_with(monkeypatch, not_ready="")
        ready = CliRunner().invoke(cli, command)
    none = CliRunner().invoke(cli, command)
    assert (not_ready.exit_code, ready.exit_code, none.exit_code) == (1, 0, 1)
    assert ready.output.endswith(f"{INTERFACE}: ready\n")  # beside the gateway's log


def test_dns_that_does_not_work_is_said_and_keeps_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path):
        _answer_with(monkeypatch, not_ready="", dns=DNS_FAULT)
        readiness.show(None, tmp_path)
    said = "ready, but DNS does not work: 10.9.0.1 does not answer"
    assert capsys.readouterr().out == f"{INTERFACE}: {said}\n"


def test_an_older_gateway_is_not_taken_for_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path):
        _answer_with(monkeypatch, not_ready=None)
        with pytest.raises(RuntimeFailure, match="does not say whether it is; restart it"):
            readiness.show(None, tmp_path)
