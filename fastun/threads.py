"""Threads for the event loop's blocking calls: name lookups, netlink, DNS programs.

Like the loop's own pool, but with daemon threads, which are not joined at the end: a name lookup
blocks for as long as its servers do not answer, and must not keep a gateway from ending.
"""

from __future__ import annotations

import _thread
import errno
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

N_THREADS: Final = 8

#: A thread begins within milliseconds; on a loaded host, a hundred.
_BEGIN_LIMIT_S: Final = 1.0


def start(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a daemon thread. Raises OSError where there is no memory for one.

    Not by `Thread.start`: that waits until the new thread has said that it runs. It never does
    where it then has no memory to begin with.
    """
    begun, claim = threading.Event(), threading.Lock()

    def run() -> None:
        if claim.acquire(blocking=False):  # else it comes too late
            begun.set()
            function(*arguments)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        raise _no_thread() from None
    if not begun.wait(_BEGIN_LIMIT_S) and claim.acquire(blocking=False):
        raise _no_thread()


def _no_thread() -> OSError:
    return OSError(errno.EAGAIN, "no thread can be started")


class DaemonThreads(ThreadPoolExecutor):
    """An executor that a loop takes as its default one, which has to be of this class."""

    def __init__(self, n_threads: int = N_THREADS) -> None:
        """Start no thread before there is work, and none while one waits for some."""
        super().__init__(max_workers=n_threads)  # whose own threads are never started
        self._n_threads = n_threads
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._n_started = 0
        self._idle = threading.Semaphore(0)  # how many threads wait for work

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        """Have a thread call ``function``. Raises OSError where there is none."""
        future: Future[Any] = Future()
        if not self._idle.acquire(blocking=False) and self._n_started < self._n_threads:
            try:
                start(self._run)
            except OSError:
                if self._n_started == 0:
                    raise
            else:
                self._n_started += 1
        self._work.put((future, lambda: function(*args, **named)))  # perhaps for a busy one
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the threads to the process's end."""

    def _run(self) -> None:
        while True:
            future, call = self._work.get()
            settle: Callable[[], object] = future.cancelled
            if future.set_running_or_notify_cancel():
                try:
                    settle = partial(future.set_result, call())
                except BaseException as error:  # noqa: BLE001 (it is the caller's)
                    settle = partial(future.set_exception, error)
            self._idle.release()  # before the caller goes on, maybe with more work
            settle()
            del future, call, settle
