"""The control socket's file: its mode, and how it comes and goes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from fastun.errors import RuntimeFailure
from fastun.status import control
from tests.support.control_socket import INTERFACE, serving


def test_only_its_user_may_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_socket_never_had_another_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            bind(self, address)
            modes.append(stat.S_IMODE(Path(address).stat().st_mode))

    monkeypatch.setattr(socket, "socket", Watched)
    old = os.umask(0)
    try:
        with serving(tmp_path):
            pass
    finally:
        os.umask(old)
    assert modes == [0o600]


def test_the_socket_goes_with_the_gateway(tmp_path: Path) -> None:
    with serving(tmp_path) as path:
        assert path.is_socket()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_took_our_place_stays(tmp_path: Path) -> None:
    with serving(tmp_path) as path:
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.is_socket()
    other.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with serving(tmp_path):
        assert control.request(path, "status").interface == INTERFACE


def test_a_gateway_too_busy_to_accept_is_alive(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        error = 0
        while error == 0:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            error = client.connect_ex(str(path))
        assert error == errno.EAGAIN
        assert control.is_alive(path)


def test_a_second_gateway_on_the_socket_is_refused_and_the_first_goes_on(path: Path) -> None:
    with (
        pytest.raises(RuntimeFailure, match=f"^another gateway listens on {path}; stop it, or "),
        serving(path.parent),
    ):
        pass
    assert control.request(path, "status").interface == INTERFACE


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_what_is_not_a_socket_is_not_removed(tmp_path: Path, kind: str) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with (
        pytest.raises(RuntimeFailure, match=f"^{path} is in the way; remove it"),
        serving(tmp_path),
    ):
        pass
    assert path.lstat()


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RuntimeFailure, match=r"^--run-dir .*/file/run: unit0.sock cannot be made "),
        serving(tmp_path / "file" / "run"),
    ):
        pass


def test_there_is_no_socket_in_a_run_directory_that_others_may_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with (
        pytest.raises(RuntimeFailure, match=f"^--run-dir {tmp_path}: others may write to it; "),
        serving(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
