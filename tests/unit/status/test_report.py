"""`fastun status`: which gateway it asks, and what it prints."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from fastun.errors import RuntimeFailure
from fastun.status import control, report
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
        report.show(None, tmp_path, as_json=False)
    assert capsys.readouterr().out.startswith(f"{INTERFACE}  ")


def test_of_several_gateways_one_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, "b.2"), serving(tmp_path, "a1"):
        with pytest.raises(RuntimeFailure) as error:
            report.show(None, tmp_path, as_json=False)
        assert str(error.value) == "several gateways run; choose one with --interface: a1, b.2"
        report.show("b.2", tmp_path, as_json=False)
    assert capsys.readouterr().out.startswith("b.2  ")


@pytest.mark.parametrize("run_dir", ["there", "not-there"])
def test_without_a_gateway_there_is_nothing_to_choose(tmp_path: Path, run_dir: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeFailure, match=r"^no gateway is running .*; start one"):
        report.show(None, tmp_path / run_dir, as_json=False)


SETRESUID = {"x86_64": 117, "aarch64": 147}  # its number, by machine


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.skipif(platform.machine() not in SETRESUID, reason="needs x86_64 or aarch64")
def test_without_permission_for_the_run_directory_the_error_says_what_to_do(path: Path) -> None:
    errors = []

    def as_nobody() -> None:
        # Of this thread only: the raw call, where os.seteuid would change the whole process.
        syscall_setresuid(65534)
        for interface in (INTERFACE, None):
            try:
                report.show(interface, path.parent, as_json=False)
            except RuntimeFailure as error:
                errors.append(str(error))

    thread = threading.Thread(target=as_nobody)
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert all("run as root, or as the user that runs the gateway" in error for error in errors)


def syscall_setresuid(uid: int) -> None:
    number = SETRESUID[platform.machine()]
    assert ctypes.CDLL(None, use_errno=True).syscall(number, uid, uid, -1) == 0


# -- showing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "n_down"), [("plain", 9), ("plain", 10), ("wireguard", 10)])
def test_of_many_peers_only_the_connected_get_a_line_and_all_fit_in_80_columns(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wire: str,
    n_down: int,
) -> None:
    answer = control.request(path, "status")
    (down, _) = answer.peers
    absent = [msgspec.structs.replace(down, name=f"absent{n}") for n in range(n_down)]
    answer = msgspec.structs.replace(answer, wire=wire, peers=[connected("p" * 64), *absent])
    monkeypatch.setattr(control, "request", lambda *_: answer)
    monkeypatch.setenv("COLUMNS", "80")
    report.show(INTERFACE, path.parent, as_json=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"peers    1 connected, {n_down} not\n" in shown
    assert shown.count("p") >= 64
    assert ("absent0" in shown) == (n_down == 9)
    assert ("handshake" in shown) == (wire == "wireguard")
    assert re.search(r" tcp +\[2001:", shown)
    assert "987.65 ms" in shown
    assert "59 min" in shown
