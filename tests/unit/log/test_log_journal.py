"""Events as the journal's fields: what is sent, and where it goes when the journal takes none."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.log.journal import Journal, packed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fields(datagram: bytes) -> dict[str, str]:
    """As journald reads it (journald-native.c)."""
    found, rest = {}, datagram
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, is_whole, value = line.partition(b"=")
        if not is_whole:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode("ascii")] = value.decode("utf-8")
    return found


def test_an_event_has_its_text_its_priority_and_a_field_for_each_of_its_parts() -> None:
    event = {"component": "link", "event": "up", "level": "warning", "peer": "laptop", "n": 3}
    assert fields(packed("link up", event)) == {
        "MESSAGE": "link up",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "fastun",
        "FASTUN_COMPONENT": "link",
        "FASTUN_EVENT": "up",
        "FASTUN_PEER": "laptop",
        "FASTUN_N": "3",
    }


@given(
    st.text(),
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in ("level", "timestamp")),
        st.one_of(st.text(), st.integers()),
    ),
)
def test_whatever_is_in_an_event_makes_no_field_of_its_own(
    message: str, event: dict[str, str | int]
) -> None:
    found = fields(packed(message, event))
    names = found.keys() - {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}
    assert all(name.startswith("FASTUN_") and len(name) <= 64 for name in names)
    assert all(name.replace("_", "A").isalnum() and name.isascii() for name in names)
    assert len(names) <= len(event)
    assert found["MESSAGE"] == message.encode("utf-8", "backslashreplace").decode()
    assert found["PRIORITY"] == "6"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.settimeout(10)
        yield listener


def test_what_the_journal_does_not_take_is_left_to_stderr(
    journald: socket.socket, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "socket")
    assert journal.send("fits", {})
    assert fields(journald.recv(4096))["MESSAGE"] == "fits"
    assert not journal.send("x" * (1 << 22), {}), "too long"
    taken = [journal.send("queued", {}) for _ in range(2000)]
    assert taken[0]
    assert not taken[-1], "a queue that is full is not waited for"
    journald.close()
    assert not journal.send("none listens", {})
    journal.close()


PROGRAM = """
import os, sys
from pathlib import Path
from fastun import log
from fastun.log import journal
journal.Journal.__init__.__defaults__ = (Path(sys.argv[1]),)
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}" if sys.argv[3] else "1:2"
log.configure(sys.argv[2], 0)
log.unblock()
log.get("link").info("up", peer="laptop")
log.get("link").info("up", peer="x" * 5_000_000)
try:
    1 / 0
except ZeroDivisionError:
    log.get("link").error("failed", exc_info=True)
log.configure(sys.argv[2], 1)
log.get("link").debug("looked")
"""


def said(tmp_path: Path, log_format: str, *, is_journal: bool) -> list[str]:
    arguments = [str(tmp_path / "socket"), log_format, "yes" if is_journal else ""]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return done.stderr.splitlines()


def test_a_log_for_people_goes_to_the_journal_behind_stderr_with_fields(
    journald: socket.socket, tmp_path: Path
) -> None:
    assert said(tmp_path, "console", is_journal=True) == []
    up, cut, failed, looked = (fields(journald.recv(65536)) for _ in range(4))
    assert up["MESSAGE"] == "link      up  peer=laptop"
    assert (up["FASTUN_EVENT"], up["FASTUN_PEER"], up["PRIORITY"]) == ("up", "laptop", "6")
    assert len(cut["FASTUN_PEER"]) < 1000
    assert "ZeroDivisionError" in failed["FASTUN_EXCEPTION"]
    assert failed["MESSAGE"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert (failed["PRIORITY"], looked["PRIORITY"]) == ("3", "7")


@pytest.mark.parametrize(("log_format", "is_journal"), [("json", True), ("console", False)])
def test_json_and_any_other_stderr_have_all_lines_themselves(
    journald: socket.socket, tmp_path: Path, log_format: str, *, is_journal: bool
) -> None:
    assert len(said(tmp_path, log_format, is_journal=is_journal)) > 3
    journald.setblocking(False)
    with pytest.raises(BlockingIOError):
        journald.recv(65536)


def test_without_a_journal_the_lines_are_on_stderr(tmp_path: Path) -> None:
    assert " up " in said(tmp_path, "console", is_journal=True)[0]
