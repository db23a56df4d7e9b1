"""fastun.threads: the pool for blocking calls."""

from __future__ import annotations

import threading

import pytest

from fastun.threads import DaemonThreads


def test_calls_one_after_the_other_are_made_by_one_thread() -> None:
    pool = DaemonThreads()
    threads = {pool.submit(threading.get_ident).result(5) for _ in range(50)}
    assert len(threads) == 1


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
