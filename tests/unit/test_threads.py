"""fastun.threads: the pool for blocking calls."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fastun import threads
from fastun.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable


def test_calls_one_after_the_other_are_made_by_one_thread() -> None:
    pool = DaemonThreads()
    used = {pool.submit(threading.get_ident).result(5) for _ in range(50)}
    assert len(used) == 1


def test_calls_at_once_do_not_wait_for_each_other() -> None:
    pool, together = DaemonThreads(), threading.Barrier(4)
    calls = [pool.submit(together.wait, 5) for _ in range(4)]
    assert sorted(call.result(5) for call in calls) == [0, 1, 2, 3]


def test_a_call_that_fails_or_was_given_up_keeps_no_thread() -> None:
    pool, begin = DaemonThreads(n_threads=1), threading.Event()
    first = pool.submit(begin.wait, 5)
    given_up = pool.submit(threading.get_ident)
    assert given_up.cancel()
    failing = pool.submit(int, "x")
    begin.set()
    assert first.result(5)
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(5)
    assert pool.submit(lambda: 7).result(5) == 7


# -- without memory for a thread -----------------------------------------------------------------


def refuses(*_: Any) -> int:
    raise RuntimeError("can't start new thread")


def never_begins(*_: Any) -> int:
    return 0


@pytest.fixture(params=[refuses, never_begins])
def no_thread(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    monkeypatch.setattr(threads, "_BEGIN_LIMIT_S", 0.05)
    return lambda: monkeypatch.setattr(_thread, "start_new_thread", request.param)


def test_one_that_does_not_begin_is_not_waited_for(no_thread: Callable[[], None]) -> None:
    no_thread()
    with pytest.raises(OSError, match="no thread can be started"):
        threads.start(int)


def test_a_pool_without_any_thread_says_so(no_thread: Callable[[], None]) -> None:
    no_thread()
    with pytest.raises(OSError, match="no thread can be started"):
        DaemonThreads().submit(int)


def test_a_pool_does_with_the_threads_that_it_has(no_thread: Callable[[], None]) -> None:
    pool, begin = DaemonThreads(), threading.Event()
    first = pool.submit(begin.wait, 5)
    no_thread()
    second = pool.submit(lambda: 7)
    assert not second.done()
    begin.set()
    assert first.result(5)
    assert second.result(5) == 7


def test_one_that_begins_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[..., object]] = []
    called: list[int] = []
    monkeypatch.setattr(threads, "_BEGIN_LIMIT_S", 0.01)
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, _: late.append(run))
    with pytest.raises(OSError, match="no thread can be started"):
        threads.start(called.append, 1)
    late[0]()
    assert called == []
