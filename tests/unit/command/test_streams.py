"""Stdin, stdout and stderr that are closed, full, or without a reader, of every kind of command."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import IO

import pytest

from fastun.lab.host import wait_until
from fastun.peers.store import PeerStore

# Of each way to print: by click, by sys.stdout, a secret, JSON, and of another process's figures.
PRINTING = (
    ("--version",),
    ("serve", "--help"),
    ("keygen",),
    ("key",),
    ("peer", "list"),
    ("peer", "list", "--json"),
    ("peer", "show", "laptop"),
    ("peer", "export"),
    ("peer", "add", "phone", "--address", "10.9.0.3/24"),
    ("doctor",),
    ("doctor", "--json"),
    ("completion", "bash"),
    ("install-service", "--print"),
)
OF_A_STATE = ("key", "peer", "doctor")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("streams") / "state"
    done = execute(
        ("peer", "add", "laptop", "--address", "10.9.0.2/24", "--endpoint", "udp://192.0.2.1"),
        directory,
        "> /dev/null",
    )
    assert done.returncode == 0, done.stderr
    return directory


def execute(
    arguments: tuple[str, ...], state: Path, redirected: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run fastun as a shell does with these redirections."""
    if arguments[0] in OF_A_STATE:
        arguments = (*arguments, "--state", str(state))
    # fmt: off
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", sys.executable, "-m", "fastun", *arguments],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    # fmt: on


def names(state: Path) -> list[str]:
    with PeerStore(state) as store:
        return [peer.name for peer in store.peers()]


@pytest.mark.parametrize(
    ("redirected", "why"), [("> /dev/full", "No space left on device"), (">&-", "it is closed")]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_what_cannot_be_printed_is_one_line(
    arguments: tuple[str, ...], unbuffered: str, redirected: str, why: str, state: Path
) -> None:
    done = execute(arguments, state, redirected, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"fastun: stdout: {why}; "), done.stderr
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
    assert names(state) == ["laptop"], "nothing was changed"


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_of_a_reader_that_leaves_not_a_word_is_said(
    arguments: tuple[str, ...], state: Path
) -> None:
    done = execute(arguments, state, "| true")
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


@pytest.mark.parametrize("redirected", ["2>&-", "<&- 2>&-", "2> /dev/full"])
@pytest.mark.parametrize("arguments", [("keygen",), ("peer", "list"), ("peer", "show", "laptop")])
def test_without_stderr_a_command_does_what_it_does(
    arguments: tuple[str, ...], redirected: str, state: Path
) -> None:
    done = execute(arguments, state, redirected)
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize("arguments", [("pubkey",), ("peer", "import")])
def test_without_stdin_the_line_says_so(arguments: tuple[str, ...], state: Path) -> None:
    done = execute(arguments, state, "<&-")
    assert done.returncode == 2
    assert done.stderr == "fastun: stdin: it is closed; give a file or a pipe to read\n"


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """Else what is written to stderr would be written to it."""
    program = """if True:
        import os
        from fastun.command import streams
        streams.prepare()
        with open("/etc/passwd") as opened:
            assert opened.fileno() > 2
        for number in (0, 2):
            print(os.readlink(f"/proc/self/fd/{number}"))
    """
    command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["/dev/null", "/dev/null"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:surrogateescape"])
def test_a_locale_without_the_letters_is_not_a_failure(state: Path, encoding: str) -> None:
    done = execute(("peer", "list"), state, "", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "laptop" in done.stdout


def test_a_code_that_cannot_be_drawn_is_refused_and_no_peer_added(state: Path) -> None:
    arguments = ("peer", "add", "phone", "--address", "10.9.0.3/24", "--format", "qr")
    done = execute(arguments, state, "", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fastun: --format qr: iso8859-1, the encoding of stdout, has no")
    assert names(state) == ["laptop"]


def n_unread(pipe: IO[str]) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_command_that_is_interrupted_has_not_done_its_work(
    number: signal.Signals, state: Path
) -> None:
    """As in a script: fastun peer import < peers.jsonl && rm peers.jsonl."""
    command = [sys.executable, "-m", "fastun", "peer", "import", "--state", str(state)]
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command],  # a shell's background job ignores it
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdin = process.stdin
    assert stdin is not None
    stdin.write('{"fastun_peers":1}\n')
    stdin.flush()
    wait_until(lambda: not n_unread(stdin), "it reads", timeout_s=60)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip() == "fastun: interrupted before it was done; run it again"
    assert names(state) == ["laptop"]


def test_a_completed_line_is_not_an_interruption(state: Path) -> None:
    line = {"COMP_WORDS": "fastun pee", "COMP_CWORD": "1", "_FASTUN_COMPLETE": "bash_complete"}
    done = execute(("--help",), state, "", **line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,peer\n", "")
