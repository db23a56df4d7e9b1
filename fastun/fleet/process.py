"""The process of a fleet: ``python -I -u -m fastun.fleet.process CHANNEL_FD STATE URL NAME``.

It alone speaks to the database, so that neither gateway nor host process does, and neither waits
for it. The host process starts it; the gateway holds the other end of its channel, and it ends when
that does. It has the rights of its user over files, for passfiles, certificates and the copy, but
no capability: nothing of this host can be changed from here.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import setproctitle

from fastun.fleet.follower import Follower
from fastun.peers.store import PeerStore

TITLE: Final = "fastun: fleet"

# linux/prctl.h, linux/capability.h
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES_MAX: Final = 64

# A service manager may signal all processes of a service; stopping is the gateway's decision.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


def give_up_capabilities() -> None:
    """Give up all, for good, and let no other process of this user read our memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(_CAPABILITIES_MAX):  # of those that the kernel does not have, an error
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot give up capabilities")
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Follow until the gateway ends."""
    channel_fd, state, url, name = sys.argv[1:]
    setproctitle.setproctitle(TITLE)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    give_up_capabilities()
    with socket.socket(fileno=int(channel_fd)) as channel, PeerStore(Path(state)) as store:
        Follower(store, url, name, channel).run()


if __name__ == "__main__":
    main()
