"""The blocks that Python writes, by a reader that knows the format only; and where they go."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from fastun.capture import pcapng
from fastun.capture.target import Target, opened
from fastun.errors import ConfigError, RuntimeFailure
from tests.support import pcapng_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_reader_finds_interfaces_and_what_was_lost() -> None:
    content = pcapng.section_header("fastun 1", "Linux 6")
    content += pcapng.interface(pcapng.LINKTYPE_RAW, 256, "ft0-device", "frames")
    content += pcapng.interface(pcapng.LINKTYPE_ETHERNET, 64, "ft0-opened", "x" * 101)
    content += pcapng.statistics(1, 2**60, 2**60 + 1, n_received=2**40, n_dropped=7)
    device, other = pcapng_file.parse(content).interfaces
    assert (device.link_type, device.snap_length, device.name) == (101, 256, "ft0-device")
    assert (other.link_type, other.snap_length, other.name) == (1, 64, "ft0-opened")
    assert (device.received, device.dropped) == (-1, -1)
    assert (other.received, other.dropped) == (2**40, 7)


def test_a_block_says_its_length_at_both_ends() -> None:
    for name in ("", "a", "ab", "abc", "abcd", "ä"):
        block = pcapng.interface(1, 1, name, name)
        assert len(block) % 4 == 0
        assert struct.unpack("=I", block[4:8]) == struct.unpack("=I", block[-4:]) == (len(block),)


def test_a_file_is_new_and_of_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(str(tmp_path / "file")) as target:
            assert target.write(b"abc")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert (tmp_path / "file").read_bytes() == b"abc"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(ConfigError, match="it exists; remove it"), opened(str(tmp_path / name)):
            pass


def test_a_full_disk_is_one_line_and_a_closed_pipe_an_end() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(RuntimeFailure, match=r"-w x: cannot be written \(No space left"):
        Target(full, "x").write(b"abc")
    os.close(full)
    theirs, ours = os.pipe()
    os.close(theirs)
    assert not Target(ours, "-").write(b"abc")
    os.close(ours)


def test_a_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(ConfigError, match="not for a terminal"), opened("-"):
        pass
