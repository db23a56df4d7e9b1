"""`fastun disconnect`: which client it ends, and what it says when there is none to end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from fastun.command import disconnect as command
from fastun.errors import RuntimeFailure
from fastun.host.firewall import kill_switch_found
from fastun.status import control
from tests.support.control_socket import INTERFACE, serving

# The words of its command line are how a gateway is known.
PROGRAM = (sys.executable, "-c")


class Found:
    """The kill switches of a host that has no others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.names = list(names)
        monkeypatch.setattr(kill_switch_found, "interfaces", lambda: tuple(self.names))
        monkeypatch.setattr(kill_switch_found, "remove", self.names.remove)


def test_without_anything_to_end_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Found(monkeypatch)
    with pytest.raises(RuntimeFailure) as caught:
        command.disconnect(None, tmp_path)
    assert str(caught.value) == (
        f"no client is running (none listens in {tmp_path}), and no kill switch is set"
    )


def test_the_only_kill_switch_need_not_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Found(monkeypatch, "ft0")
    command.disconnect(None, tmp_path / "none")
    assert found.names == []
    assert capsys.readouterr().out == "ft0: kill switch removed\n"


def test_a_wrong_name_ends_nothing_and_names_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Found(monkeypatch, "ft0")
    with pytest.raises(RuntimeFailure, match="no kill switch of 'ft1' is set; there is ft0"):
        command.disconnect("ft1", tmp_path)
    assert found.names == ["ft0"]


def test_of_several_one_has_to_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Found(monkeypatch, "ft0", "ft1")
    with pytest.raises(RuntimeFailure, match="choose one with -i: ft0, ft1"):
        command.disconnect(None, tmp_path)
    command.disconnect("ft1", tmp_path)
    assert found.names == ["ft0"]


def test_a_serving_gateway_is_not_a_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Found(monkeypatch)
    with serving(tmp_path), pytest.raises(RuntimeFailure, match="unit0 is a server; stop it"):
        command.disconnect(INTERFACE, tmp_path)


def test_a_gateway_is_known_by_its_socket_and_not_by_the_name_that_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, ended = Found(monkeypatch, "ft1"), list[str]()
    monkeypatch.setattr(command, "end_client", lambda name, _: ended.append(name))
    with serving(tmp_path) as path:
        true = control.request(path, "status")
        lie = msgspec.structs.replace(true, role="connect", interface="ft1")
        monkeypatch.setattr(control, "request", lambda *_: lie)
        with pytest.raises(RuntimeFailure, match="choose one with -i: ft1, unit0"):
            command.disconnect(None, tmp_path)
        command.disconnect(INTERFACE, tmp_path)
    assert ended == [INTERFACE]
    assert found.names == ["ft1"]


def test_a_gateway_that_does_not_answer_keeps_no_other_from_being_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Found(monkeypatch)
    with socket.socket(socket.AF_UNIX) as silent, serving(tmp_path):
        silent.bind(str(control.socket_path(tmp_path, "ft9")))
        silent.listen()
        with pytest.raises(RuntimeFailure, match="unit0 is a server; stop it"):
            command.disconnect(INTERFACE, tmp_path)


def test_it_waits_for_the_end_of_the_process_behind_the_socket(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, "ft0")
    program = (
        "import signal, socket, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(0)))\n"
        f"listener = socket.socket(socket.AF_UNIX); listener.bind({str(path)!r})\n"
        "listener.listen(); print('listens', flush=True)\n"
        "while True: time.sleep(0.05)\n"  # a signal just before pause() would not end it
    )
    with subprocess.Popen([*PROGRAM, program, "fastun"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        command.end_client("ft0", path)
        # Its end, as the kernel says it: a parent collects it later.
        assert Path(f"/proc/{process.pid}/stat").read_text().split()[2] in "ZX"


def test_one_that_does_not_end_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "_END_S", 0.2)
    path = control.socket_path(tmp_path, "ft0")
    program = (
        "import signal, socket, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"listener = socket.socket(socket.AF_UNIX); listener.bind({str(path)!r})\n"
        "listener.listen(); print('listens', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([*PROGRAM, program, "fastun"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(RuntimeFailure, match=f"run 'kill -KILL {process.pid}', then"):
            command.end_client("ft0", path)
        process.kill()


def test_without_the_right_to_look_it_says_who_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied() -> tuple[str, ...]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kill_switch_found, "interfaces", denied)
    with pytest.raises(RuntimeFailure, match="permission denied; run as root"):
        command.disconnect(None, tmp_path)


LISTENS = """
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
os.setuid(int(sys.argv[2]))
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
listener.listen()
print("listens", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    ("user", "name", "why"),
    [
        (1234, "fastun", r"another user listens there \(user ID 1234\)"),
        (0, "other", "which listens there, is not fastun"),
    ],
)
def test_what_listens_there_and_is_not_ours_is_left_alone(user: int, name: str, why: str) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,  # that another user can get into
        contextlib.ExitStack() as stack,
    ):
        path = control.socket_path(Path(directory), "ft0")
        path.parent.chmod(0o777)
        arguments = [*PROGRAM, LISTENS, str(path), str(user), name]
        process = stack.enter_context(subprocess.Popen(arguments, stdout=subprocess.PIPE))
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(RuntimeFailure, match=why):
            command.end_client("ft0", path)
        assert process.poll() is None
        process.kill()
