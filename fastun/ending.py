"""Stop signals: recorded by the handler, acted upon elsewhere, ignored once shutdown has begun.

All signals that would end the process mean the same: stop, and restore the host. After `note` a
handler only records the first of them. Code that waits checks the record: the event loop through
the socket that `watched` yields, a name lookup or a program through `is_asked`. So no signal
interrupts a change of the host, or its undoing, halfway. A signal that was ignored when fastun was
started (nohup, a shell's background job) stays ignored.

SIGHUP without a controlling terminal is, as with other daemons, the request to read
the configuration again: `take_hang_up`.

    a signal, or ask() --> is_asked: no further change is started
                             |--- event loop and workers end --> the host is restored --> exit
                             `--- they do not end: `guarded` restores it without them --> exit 1

The state belongs to the process, so it is kept in the module.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Result = TypeVar("Result")

# Sent by people, terminals and service managers.
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

# Other signals that end a process by default and may plausibly be sent to it (signal(7)).
OTHER_SIGNALS: Final = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGXCPU,
    signal.SIGPWR,
)

_LOOK_EVERY_S = 0.05
_GUARD_LOOK_S = 0.2
_RING = (1).to_bytes(8, sys.byteorder)  # eventfd(2)

_asked_by: list[str] = []  # the first one's name
_hang_ups: list[None] = []  # of no terminal, since the last `take_hang_up`
_extra_s: list[float] = []  # by which `guarded` waits longer
_bells: list[int] = []  # eventfds of `guarded`, written to when the end begins


class AskedToStop(RuntimeFailure):
    """An action was not finished, because fastun was asked to stop."""

    exit_code = 0

    def __init__(self) -> None:
        """Say so."""
        super().__init__("fastun was asked to stop")


def ask(why: str) -> None:
    """Record that the end has begun, and why; later calls change nothing."""
    if not _asked_by:
        _asked_by.append(why)
        for bell in _bells:
            os.write(bell, _RING)


def ring(bell: int) -> None:
    """Have an eventfd written to when the end begins, which may be at once."""
    _bells.append(bell)
    if is_asked():
        os.write(bell, _RING)


def is_asked() -> bool:
    """Return whether the end has begun."""
    return bool(_asked_by)


def reason() -> str:
    """Return what started the end; empty before."""
    return _asked_by[0] if _asked_by else ""


def check() -> None:
    """Raise AskedToStop when the end has begun."""
    if is_asked():
        raise AskedToStop


def unless_asked(function: Callable[[], Result]) -> Result:
    """Run a call that may block for long in a thread; abandon it with AskedToStop if asked."""
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
    """Install a handler for these signals, except those that are ignored."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, how)


def take_hang_up() -> bool:
    """Return whether SIGHUP has come that ends nothing, since the last call."""
    has_come = bool(_hang_ups)
    _hang_ups.clear()
    return has_come


def note() -> None:
    """Record stop signals from now on, for `watched` to see."""
    handle(_on_signal, (*SIGNALS, *OTHER_SIGNALS))
    if not _has_terminal():  # asked now: one that hangs up is none any more when the signal comes
        handle(lambda *_: _hang_ups.append(None), (signal.SIGHUP,))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def watched() -> Iterator[socket.socket]:
    """Record stop signals from now on; yields a socket that becomes readable when one arrives.

    Main thread only. When it is left they are ignored for good, since the process is about to exit:
    one that comes in its last moment must not change the exit code.
    """
    readable, written = socket.socketpair()
    with readable, written:
        for end in (readable, written):
            end.setblocking(False)
        # The kernel may deliver a signal to any thread; the descriptor wakes the main one.
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        note()
        if is_asked() or _hang_ups:
            written.send(b"\0")
        try:
            yield readable
        finally:
            # As Python exits it resets its handlers to the default, but leaves SIG_IGN alone.
            handle(signal.SIG_IGN, (*SIGNALS, *OTHER_SIGNALS))
            signal.set_wakeup_fd(-1)


@contextlib.contextmanager
def guarded(limit_s: float, last_resort: Callable[[], None]) -> Iterator[None]:
    """Make sure that the block ends within ``limit_s`` after the end has begun.

    If it does not, ``last_resort`` is called on another thread, and the process exits with 1. What
    `extended` is for is not counted.
    """
    left = threading.Event()
    bell = os.eventfd(0, os.EFD_CLOEXEC)

    def guard() -> None:
        os.read(bell, 8)  # eventfd_read does not resume after a signal
        passed_s = 0.0
        while passed_s < limit_s + sum(_extra_s):
            began_s = time.monotonic()
            if left.wait(_GUARD_LOOK_S):
                return
            # What passes while nothing of this process runs is not the block's.
            passed_s += min(time.monotonic() - began_s, 2 * _GUARD_LOOK_S)
        try:
            last_resort()
        finally:
            os._exit(1)

    threading.Thread(target=guard, name="guard", daemon=True).start()
    ring(bell)
    try:
        yield
    finally:
        _bells.remove(bell)
        left.set()


@contextlib.contextmanager
def extended(limit_s: float) -> Iterator[None]:
    """Let the end take longer by what this block takes, up to ``limit_s``."""
    began_s, n = time.monotonic(), len(_extra_s)
    _extra_s.append(limit_s)
    try:
        yield
    finally:
        _extra_s[n] = min(limit_s, time.monotonic() - began_s) if is_asked() else 0.0


def _on_signal(number: int, _frame: object) -> None:
    ask(signal.Signals(number).name)
