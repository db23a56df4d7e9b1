"""Threads for the event loop's blocking calls: name lookups, netlink, DNS programs.

Like the loop's own pool, but with daemon threads, which are not joined at the end: a name lookup
blocks for as long as its servers do not answer, and must not keep a gateway from ending.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

N_THREADS: Final = 8


class DaemonThreads(ThreadPoolExecutor):
    """An executor that a loop takes as its default one, which has to be of this class."""

    def __init__(self, n_threads: int = N_THREADS, name: str = "background") -> None:
        """Start no thread before there is work, and none while one waits for some."""
        super().__init__(max_workers=n_threads)  # whose own threads are never started
        self._n_threads = n_threads
        self._name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._n_started = 0
        self._idle = threading.Semaphore(0)  # how many threads wait for work

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        """Have a thread call ``function``."""
        future: Future[Any] = Future()
        self._work.put((future, lambda: function(*args, **named)))
        if not self._idle.acquire(blocking=False) and self._n_started < self._n_threads:
            self._n_started += 1
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
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
