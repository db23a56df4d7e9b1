"""Ending signals: noted by the handler, acted upon by who can, and ignored once the end has begun.

All signals that would end the process ask for the same: stop, and leave the host as it was. From
`note` on, a handler only notes the first of them. What can wait looks at the note: the event
loop through the socket that `watched` yields, a name lookup or a program through `is_asked`. So no
signal cuts a change of the host, or its undoing, in half. A signal that was ignored when fastun was
started (nohup, a shell's background job) stays ignored.

    a signal, or ask() --> is_asked: no change is begun any more
                             |--- the loop ends, and the workers --> the host is restored --> exit
                             `--- they do not: `guarded` restores it without them --> exit 1

One process has one such state, so it is the module's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Result = TypeVar("Result")

# What people, terminals and service managers send.
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

# What else ends a process that does not know it, and may well be sent to one (signal(7)).
_OTHERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGPWR)

_LOOK_EVERY_S = 0.05
_RING = (1).to_bytes(8, sys.byteorder)  # eventfd(2)

_asked_by: list[str] = []  # the first one's name
_bells: list[int] = []  # eventfds that are rung then, of `guarded`


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
        for bell in _bells:
            os.write(bell, _RING)


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


def unless_asked(function: Callable[[], Result]) -> Result:
    """Call what may block for long, in a thread; leave it behind with AskedToStop if asked."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 (it is the caller's)
            errors.append(error)

    thread = threading.Thread(target=call, name="waiting", daemon=True)
    thread.start()
    while thread.is_alive():
        check()
        thread.join(_LOOK_EVERY_S)
    if errors:
        raise errors[0]
    return results[0]


def handle(
    how: Callable[..., Any] | signal.Handlers, numbers: Sequence[signal.Signals] = SIGNALS
) -> None:
    """Handle each of these signals so, but those that are ignored."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, how)


def note() -> None:
    """Note ending signals from now on, for `watched` to see."""
    handle(_on_signal, (*SIGNALS, *_OTHERS))


@contextlib.contextmanager
def watched() -> Iterator[socket.socket]:
    """Note ending signals from now on; yields what becomes readable when one comes.

    Main thread only. When it is left they are ignored for good, since the process is about to exit:
    one that comes in its last moment must not change the exit code.
    """
    readable, written = socket.socketpair()
    with readable, written:
        for end in (readable, written):
            end.setblocking(False)
        # The kernel may give a signal to any thread: the descriptor wakes the main one regardless.
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        note()
        if is_asked():
            written.send(b"\0")
        try:
            yield readable
        finally:
            # Python's own end would give a handler of ours, and only that, back to the default.
            handle(signal.SIG_IGN, (*SIGNALS, *_OTHERS))
            signal.set_wakeup_fd(-1)


@contextlib.contextmanager
def guarded(limit_s: float, last_resort: Callable[[], None]) -> Iterator[None]:
    """See to it that the block ends within ``limit_s`` of the end's beginning.

    If it does not, ``last_resort`` is called on another thread, and the process exits with 1.
    """
    left = threading.Event()
    bell = os.eventfd(0, os.EFD_CLOEXEC)

    def guard() -> None:
        os.read(bell, 8)  # eventfd_read would not go on after a signal
        if not left.wait(limit_s):
            try:
                last_resort()
            finally:
                os._exit(1)

    threading.Thread(target=guard, name="guard", daemon=True).start()
    _bells.append(bell)
    if is_asked():
        os.write(bell, _RING)
    try:
        yield
    finally:
        _bells.remove(bell)
        left.set()


def _on_signal(number: int, _frame: object) -> None:
    ask(signal.Signals(number).name)
