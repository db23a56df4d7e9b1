"""Journals of gateways that end, or are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.host.journal import journal_file
from fastun.host.journal.changes import AnyChange, Dns, NftTable, RoutingRules
from fastun.host.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "net/ipv4/conf/all/src_valid_mark"


def make(journal: Journal, *made: AnyChange) -> None:
    for change in made:
        with journal.changing(change):
            pass


def killed(
    state: Path, work: Callable[[Journal], None], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Have a gateway do its work and be killed, after what is done ``meanwhile``."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(journal := Journal(state, "dead0"))
            os.write(done, b"\n")
            time.sleep(60)
            del journal
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    meanwhile()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def edit(path: Path, **fields: object) -> None:
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | fields) + "\n", *rest]))


def files(state: Path) -> list[Path]:
    return journal_file.paths(state / "journal")


def start(state: Path, interface: str = "fastun1") -> Journal:
    return Journal(state, interface).__enter__()


RULES, TABLE, DNS = (
    RoutingRules(51820),
    NftTable("fastun0", "fastun0"),
    Dns("fastun0", "resolvconf"),
)
