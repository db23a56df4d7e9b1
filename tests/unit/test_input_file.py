"""Files that an operator names: a pipe is read like a file, and one without a writer is refused."""

import os
import threading
import time
from pathlib import Path

import pytest

from fastun import input_file

CONTENT = b"[interface]\n" * 20_000  # more than a pipe holds


def read(path: Path, bytes_max: int = 1 << 20) -> bytes:
    with input_file.opened(path) as descriptor:
        return input_file.read(descriptor, bytes_max)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_file_is_read_whole_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert read(path) == CONTENT
    assert read(path, 7) == CONTENT[:7]


def test_a_pipe_that_nothing_writes_to_is_refused(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "_FOR_A_WRITER_MS", 1)
    with pytest.raises(OSError, match="nothing writes to"):
        read(pipe)


@pytest.mark.parametrize("wait_ms", [1, 60_000], ids=["before", "after"])
def test_a_writer_may_come_before_or_after_us_and_take_its_time(
    pipe: Path, monkeypatch: pytest.MonkeyPatch, wait_ms: int
) -> None:
    monkeypatch.setattr(input_file, "_FOR_A_WRITER_MS", wait_ms)
    before = os.open(pipe, os.O_RDWR) if wait_ms == 1 else None

    def write() -> None:
        time.sleep(0.05)
        with pipe.open("wb") as writer:
            if before is not None:
                os.close(before)
            for begin in range(0, len(CONTENT), 10_000):
                writer.write(CONTENT[begin : begin + 10_000])
                writer.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert read(pipe) == CONTENT
    finally:
        thread.join()
