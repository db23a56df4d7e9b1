"""`fastun status`: which gateway it asks, and what it prints."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fastun.errors import RuntimeFailure
from fastun.status import control, report
from fastun.status.reply import Confinement, ForwardStatus, LastError
from tests.support.control_socket import INTERFACE, connected, serving

if TYPE_CHECKING:
    from pathlib import Path


# -- choosing ---------------------------------------------------------------------------------


def test_the_only_living_gateway_need_not_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "killed.sock"))
    (tmp_path / "notes.sock").write_text("no socket at all")
    with serving(tmp_path):
        report.show(None, tmp_path)
    assert capsys.readouterr().out.startswith(f"{INTERFACE}  ")


def test_several_gateways_are_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "b.2"), serving(tmp_path, "a1"):
        report.show(None, tmp_path)
        both = capsys.readouterr().out
        report.show("b.2", tmp_path)
        one = capsys.readouterr().out
        report.show(None, tmp_path, as_json=True)
        both_as_json = json.loads(capsys.readouterr().out)
        report.show("b.2", tmp_path, as_json=True)
        one_as_json = json.loads(capsys.readouterr().out)
    assert both.startswith("a1  ")
    assert "\n\nb.2  " in both
    assert one.startswith("b.2  ")
    assert [status["interface"] for status in both_as_json] == ["a1", "b.2"]
    assert one_as_json["interface"] == "b.2"


def test_a_command_for_one_gateway_asks_which(tmp_path: Path) -> None:
    with serving(tmp_path, "b.2"), serving(tmp_path, "a1"):
        with pytest.raises(RuntimeFailure) as error:
            report.socket_of(None, tmp_path)
        assert report.socket_of("b.2", tmp_path) == tmp_path / "b.2.sock"
    assert str(error.value) == "several gateways run; choose one with --interface: a1, b.2"


def test_a_gateway_that_does_not_answer_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, "a1"), socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "b2.sock"))
        hung.listen(1)
        ask = control.request
        monkeypatch.setattr(control, "request", lambda path, what: ask(path, what, 0.3))
        with pytest.raises(RuntimeFailure, match="b2 does not answer"):
            report.show(None, tmp_path)
    assert capsys.readouterr().out.startswith("a1  ")


@pytest.mark.parametrize("run_dir", ["there", "not-there"])
def test_without_a_gateway_there_is_nothing_to_choose(tmp_path: Path, run_dir: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeFailure, match=r"^no gateway is running .*; start one"):
        report.show(None, tmp_path / run_dir)


SETRESUID = {"x86_64": 117, "aarch64": 147}  # its number, by machine


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.skipif(platform.machine() not in SETRESUID, reason="needs x86_64 or aarch64")
def test_without_permission_for_the_run_directory_the_error_says_what_to_do(path: Path) -> None:
    errors = []

    def without_rights() -> None:
        # Of this thread only: the raw call, where os.seteuid would change the whole process.
        syscall_setresuid(65534)
        for interface in (INTERFACE, None):
            try:
                report.show(interface, path.parent)
            except RuntimeFailure as error:
                errors.append(str(error))

    thread = threading.Thread(target=without_rights)
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert all("run as root, or as the user that runs the gateway" in error for error in errors)


def syscall_setresuid(uid: int) -> None:
    number = SETRESUID[platform.machine()]
    assert ctypes.CDLL(None, use_errno=True).syscall(number, uid, uid, -1) == 0


# -- showing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "n_down"),
    [("plain", 10), ("plain", 11), pytest.param("wireguard", 4000, marks=pytest.mark.slow)],
)
def test_the_connected_peers_come_first_and_the_rest_is_counted(  # all in 80 columns
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wire: str,
    n_down: int,
) -> None:
    answer = control.request(path, "status")
    (down, _) = answer.peers
    absent = [
        msgspec.structs.replace(down, name=f"absent{n}", last_handshake_unix_seconds=n or None)
        for n in range(n_down)
    ]
    answer = msgspec.structs.replace(answer, wire=wire, peers=[*absent, connected("p" * 64)])
    monkeypatch.setattr(control, "request", lambda *_: answer)
    monkeypatch.setenv("COLUMNS", "80")
    report.show(INTERFACE, path.parent)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"peers    1 connected, {n_down} not\n" in shown
    assert shown.count("p") >= 64
    assert shown.index("ppppp") < shown.index("absent")
    assert shown.count("absent") == 10
    assert ("absent0" in shown) == (n_down == 10), "it has never had a handshake"
    assert f"absent{n_down - 1}" in shown
    more = f"and {n_down - 10:,} more, not connected; 'fastun status --all' shows them"
    assert (more in shown) == (n_down > 10)
    report.show(INTERFACE, path.parent, shows_all=True)
    assert capsys.readouterr().out.count("absent") == n_down
    assert ("handshake" in shown) == (wire == "wireguard")
    assert re.search(r" tcp +\[2001:", shown)
    assert "987.65 ms" in shown
    assert "59 min" in shown


# -- why peers are not connected --------------------------------------------------------------


def test_the_last_error_of_a_peer_is_a_line_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as socket_path:
        status = control.request(socket_path, "status")
    peer = status.peers[0]
    error = LastError(
        reason="not_opened",
        unix_seconds=time.time() - 65,
        first_unix_seconds=time.time() - 7300,
        text="it\x1b does not open",
    )
    links = msgspec.structs.replace(status.links, refused_handshakes=7)
    failed = msgspec.structs.replace(peer, last_error=error)
    changed = msgspec.structs.replace(status, peers=[failed], links=links)
    monkeypatch.setattr(control, "request", lambda *_: changed)
    monkeypatch.setattr(report, "living", lambda _: [socket_path])
    report.show(None, tmp_path)
    out = capsys.readouterr().out
    (line,) = (
        line for line in out.splitlines() if "does not open (1 min ago, errors for 2 h)" in line
    )
    assert line.startswith(f"{peer.name}: it")
    assert "\x1b" not in line
    assert re.search(r"^handshakes +7 refused$", out, re.MULTILINE)
    monkeypatch.setattr(control, "request", lambda *_: status)
    report.show(None, tmp_path)
    assert "refused" not in capsys.readouterr().out.partition("handshakes")[2]


@pytest.mark.parametrize(
    ("hand_over", "spin", "expected"),
    [
        (True, 0, "single packets handed over in place, no spinning"),
        (False, 0, "no hand-over in place, no spinning"),
        (True, 30, "in place, writers spin for 30 µs"),
    ],
)
def test_how_the_workers_wait_for_one_another_is_a_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    hand_over: bool,
    spin: int,
    expected: str,
) -> None:
    with serving(tmp_path) as socket_path:
        status = control.request(socket_path, "status")
    lane = msgspec.structs.replace(status.lanes[0], hand_over=hand_over, spin_microseconds=spin)
    changed = msgspec.structs.replace(status, lanes=[lane])
    monkeypatch.setattr(control, "request", lambda *_: changed)
    monkeypatch.setattr(report, "living", lambda _: [socket_path])
    report.show(None, tmp_path)
    assert re.search(rf"^workers +.*{expected}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "to all networks"),
        ({"masquerade": True}, "to all networks, masquerading"),
        (
            {"masquerade": ["eth0", "eth1"], "to": ["10.1.0.0/16"], "peers": False},
            "to 10.1.0.0/16, masquerading on eth0 eth1, not from peer to peer",
        ),
        ({"to": [f"10.{n}.0.0/16" for n in range(6)]}, "10.3.0.0/16 and 2 more"),
        ({"obstacles": ["it drops", "it waits"]}, "to all networks\nit drops\nit waits"),
    ],
)
def test_what_is_forwarded_is_a_line_and_what_is_in_the_way_another(
    fields: dict[str, Any], expected: str
) -> None:
    default: dict[str, Any] = {"masquerade": False, "peers": True, "to": [], "obstacles": []}
    said = report._forwarding(ForwardStatus(**(default | fields)))  # noqa: SLF001
    assert said.plain.endswith(expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "user 61234, no capabilities, seccomp, Landlock 7"),
        (
            {"seccomp": False, "lacks": ["seccomp (why)", "x"]},
            "user 61234, no capabilities, Landlock 7; without seccomp (why); without x",
        ),
        ({"landlock": 0}, "user 61234, no capabilities, seccomp"),
    ],
)
def test_what_workers_are_confined_to_is_a_line(fields: dict[str, Any], expected: str) -> None:
    default: dict[str, Any] = {"user": 61234, "seccomp": True, "landlock": 7, "lacks": []}
    said = report._confined(Confinement(**(default | fields)))  # noqa: SLF001
    assert (said.plain, said.style == "yellow") == (expected, bool(fields.get("lacks")))
