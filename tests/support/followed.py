"""A follower of a fleet's directory that runs in a thread, and what it has said."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastun.fleet import messages
from fastun.fleet.follower import Follower
from fastun.fleet.messages import Changed, Now
from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.peers.store import PeerStore
from tests.support.fleet_server import SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Followed:
    """A follower that runs, and what it has said."""

    url: str
    state: Path
    now: Now = field(default_factory=Now)
    n_changed: int = 0

    def hear(self, channel: socket.socket) -> None:
        while (message := messages.receive(channel, messages.OF_PROCESS)) is not None:
            if isinstance(message, Changed):
                self.n_changed += 1
            elif isinstance(message, Now):
                self.now = message

    def names(self) -> list[str]:
        with PeerStore(self.state) as store:
            return [peer.name for peer in store.peers()]

    def wait(self, *names: str) -> None:
        wait_until(lambda: self.names() == [*names], f"the copy has {names}", timeout_s=15)

    def wait_fault(self, text: str) -> None:
        wait_until(lambda: text in self.now.error and bool(self.now.error) is bool(text),
                   f"fault {text!r}", timeout_s=15)  # fmt: skip

    def directory(self) -> PostgresDirectory:
        return PostgresDirectory(self.url)


@contextlib.contextmanager
def running(url: str, state: Path) -> Iterator[Followed]:
    with PeerStore(state) as store:
        store.remember_server(SERVER)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    followed = Followed(url, state)

    def follow() -> None:
        with theirs, PeerStore(state) as store:
            Follower(store, url, "gw1", theirs).run()

    threads = [
        threading.Thread(target=follow, daemon=True),
        threading.Thread(target=followed.hear, args=(ours,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield followed
    finally:
        ours.shutdown(socket.SHUT_RDWR)  # as when the gateway has died
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        ours.close()
