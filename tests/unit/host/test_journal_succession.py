"""A start waits for the end of the fastun before it, which may still be restoring the host."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from fastun import ending
from fastun.ending import AskedToStop
from fastun.host.journal.journal import Journal
from tests.support.journals import RULES, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def end_last(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Have one that has changed something, and ends when this is called."""
    ready, done = os.pipe()
    asked, ask = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ask)
            journal = Journal(tmp_path, "fastun1")
            make(journal, RULES)
            os.write(done, b"\n")
            os.read(asked, 1)
            journal.strike(RULES)
            journal.undo_all()
        finally:
            os._exit(0)
    os.close(done)
    os.read(ready, 1)
    for descriptor in (ready, asked):
        os.close(descriptor)
    yield lambda: os.close(ask)
    os.waitpid(pid, 0)


def test_one_of_the_same_interface_is_waited_for_unless_it_has_the_interface(
    tmp_path: Path, end_last: Callable[[], None]
) -> None:
    Journal(tmp_path, "fastun0").wait_for_last(lambda: False)
    Journal(tmp_path, "fastun1").wait_for_last(lambda: True)
    journal = Journal(tmp_path, "fastun1")
    waiting = threading.Thread(target=journal.wait_for_last, args=(lambda: False,), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    end_last()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_request_to_stop_ends_the_wait(
    tmp_path: Path, end_last: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_asked_by", ["SIGTERM"])
    with pytest.raises(AskedToStop):
        Journal(tmp_path, "fastun1").wait_for_last(lambda: False)
    end_last()
