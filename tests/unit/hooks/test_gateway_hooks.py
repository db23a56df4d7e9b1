"""When the hooks of a gateway run, and what their failures do (hooks/gateway)."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from fastun import ending
from fastun.config.hooks import Command, Hooks
from fastun.config.settings import Options, load
from fastun.errors import RuntimeFailure
from fastun.hooks.gateway import GatewayHooks
from fastun.peers.peer import Peer
from fastun.session.keys import format_key
from tests.support.hooks_here import runner_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.config.settings import Settings


@pytest.fixture(autouse=True)
def not_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ending, "_asked_by", [])
    monkeypatch.setattr(ending, "_extra_s", [])
    return


PEER = Peer(name="p", public_key=bytes([7] * 32))
KEY = format_key(PEER.public_key)


def settings(peers: tuple[Peer, ...] = (), **fields: Any) -> Settings:
    return dataclasses.replace(load("serve", None, Options()), hooks=Hooks(**fields), peers=peers)


def hooks_of(**fields: Any) -> GatewayHooks:
    its = settings(**fields)
    return GatewayHooks(its, runner_here(its))


def shell(text: str) -> tuple[Command, ...]:
    return (("/bin/sh", "-c", text),)


def recorded(directory: Path, **more: Any) -> tuple[GatewayHooks, Path]:
    said = directory / "said"
    events = ("pre_up", "up", "down", "post_down")
    of_events = {event: shell(f"echo $FASTUN_EVENT >> {said}") for event in events}
    return hooks_of(**(of_events | more)), said


def test_each_runs_once_in_its_order_and_also_when_the_gateway_fails(tmp_path: Path) -> None:
    hooks, said = recorded(tmp_path)
    begun: list[str] = []
    with contextlib.suppress(RuntimeFailure), hooks, hooks.while_up():
        begun += said.read_text().split()
        raise RuntimeFailure("lost")
    assert begun == ["pre_up", "up"]
    assert said.read_text().split() == ["pre_up", "up", "down", "post_down"]


def test_one_that_fails_is_a_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    hooks, said = recorded(tmp_path, up=shell("echo why; exit 5"))
    with structlog.testing.capture_logs() as events, hooks, hooks.while_up():
        pass
    assert said.read_text().split() == ["pre_up", "down", "post_down"]
    output, failed = events
    assert (output["text"], output["hook"]) == ("why", "up")
    assert (failed["log_level"], failed["error"]) == ("warning", "exit status 5")
    assert failed["program"] == "/bin/sh"


def test_of_a_wg_quick_file_a_start_ends_that_fails_and_what_was_begun_is_undone(
    tmp_path: Path,
) -> None:
    hooks, said = recorded(tmp_path, up=shell("exit 5"), file=Path("/etc/wg0.conf"))
    with (
        pytest.raises(RuntimeFailure, match=r"^/etc/wg0.conf: PostUp: command 1: exit status 5; "),
        hooks,
        hooks.while_up(),
    ):
        pytest.fail("it is not up")
    assert said.read_text().split() == ["pre_up", "down", "post_down"]


def test_a_request_to_stop_kills_up_and_not_down(tmp_path: Path) -> None:
    hooks, said = recorded(tmp_path, up=shell("sleep 600"), timeout_s=60)
    began_s = time.monotonic()
    threading.Timer(0.5, ending.ask, ("SIGTERM",)).start()
    with hooks, hooks.while_up():
        pass
    assert time.monotonic() - began_s < 30
    assert said.read_text().split() == ["pre_up", "down", "post_down"]


def test_endpoints_are_saved_into_the_file_as_it_is_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "wg0.conf"
    link = tmp_path / "link.conf"
    link.symlink_to(file)
    hooks = hooks_of(save_to=link, peers=(PEER,))
    with structlog.testing.capture_logs() as events, hooks, hooks.while_up():
        file.write_text(f"[Peer]\nPublicKey = {KEY}\n# edited meanwhile\n")
        hooks.endpoints[KEY] = "192.0.2.1:1"
    assert "Endpoint = 192.0.2.1:1\n# edited" in file.read_text()
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [event["event"] for event in events] == ["saved the endpoints of peers"]


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"\xff\xfe[", "not UTF-8")])
def test_a_file_that_cannot_be_saved_is_said(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "wg0.conf"
    if content is not None:
        file.write_bytes(content)
    hooks = hooks_of(save_to=file, peers=(PEER,))
    hooks.endpoints[KEY] = "192.0.2.1:1"
    with structlog.testing.capture_logs() as events, hooks, hooks.while_up():
        pass
    (event,) = events
    assert event["event"] == "cannot save the endpoints of peers"
    assert why in event["error"]
