"""The process of a fleet: ``python -I -u -m fastun.fleet.process CHANNEL_FD STATE URL NAME``.

It alone speaks to the database, so that neither gateway nor host process does, and neither waits
for it. The host process starts it; the gateway holds the other end of its channel, and it ends when
that does. It keeps its user, whose are the passfile, the certificates and the copy, and nothing
else of that user's: before it says a word to the database it gives up the rest (confinement.py).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import setproctitle

from fastun import native
from fastun.fleet import confinement, messages
from fastun.fleet.confinement import Files
from fastun.fleet.follower import Follower
from fastun.fleet.messages import Confined
from fastun.peers.store import PeerStore

TITLE: Final = "fastun: fleet"

# A service manager may signal all processes of a service; stopping is the gateway's decision.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


def main() -> None:
    """Follow until the gateway ends."""
    channel_fd, state, url, name = sys.argv[1:]
    if native.needs_exec():
        again = [sys.executable, "-I", "-u", "-m", __spec__.name, *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606 (itself)
    setproctitle.setproctitle(TITLE)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with socket.socket(fileno=int(channel_fd)) as channel, PeerStore(Path(state)) as store:
        store.remember_original(store.original())  # so that the journal is there
        files = Files(Path(state), url)
        found = confinement.give_up(url, files)
        messages.send(
            channel,
            Confined(
                user=found.user,
                landlock=found.landlock,
                has_filter=found.has_filter,
                lacks=found.lacks,
            ),
        )
        Follower(store, url, name, channel).run(files.have_changed)


if __name__ == "__main__":
    main()
