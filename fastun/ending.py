"""Ending signals: noticed, never acted upon in the handler, and ignored once the end has begun.

SIGTERM, SIGINT, SIGQUIT and SIGHUP all ask for the same: stop, and leave the host as it was. From
`watched` on, a handler only notes the first of them. What may wait (a name to be looked up, a
program, the event loop) looks at the note: the loop through `descriptor`, the others through
`is_asked`. So no signal cuts a change of the host, or its undoing, in half. A signal that was
ignored when fastun was started (nohup) stays ignored.

One process has one such state, so it is the module's.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

_asked_by: list[str] = []  # the first one's name


class AskedToStop(RuntimeFailure):
    """What was being done is not finished, because fastun was asked to stop."""

    exit_code = 0

    def __init__(self) -> None:
        """Say so."""
        super().__init__("fastun was asked to stop")


def ask(why: str) -> None:
    """Note that the end has begun; whoever asks again is not heard."""
    if not _asked_by:
        _asked_by.append(why)


def is_asked() -> bool:
    """Return whether the end has begun."""
    return bool(_asked_by)


def reason() -> str:
    """Return what the end was begun by; empty before."""
    return _asked_by[0] if _asked_by else ""


def check() -> None:
    """Raise AskedToStop when the end has begun."""
    if is_asked():
        raise AskedToStop


@contextlib.contextmanager
def watched() -> Iterator[socket.socket]:
    """Note ending signals from now on; yields what becomes readable when one comes.

    Main thread only. When it is left the signals are blocked for good, since the process is about
    to exit: one that comes in its last moment must not change the exit code.
    """
    readable, written = socket.socketpair()
    with readable, written:
        for end in (readable, written):
            end.setblocking(False)
        _asked_by.clear()
        # The kernel may give a signal to any thread: the descriptor wakes the main one regardless.
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        handle()
        try:
            yield readable
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            signal.set_wakeup_fd(-1)


def handle(how: Any = None) -> None:
    """Have ``how`` called for each ending signal that is not ignored; by default it is noted."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, how or _note)


def _note(number: int, _frame: object) -> None:
    ask(signal.Signals(number).name)
