"""A callback that fails whenever the loop turns costs little of a processor."""

from __future__ import annotations

import asyncio
import time

import pytest

from fastun.library_errors import Restraint

CALLS = 12


def failing_loop() -> float:
    """Return how long a loop takes in which a callback fails so often, one turn after the other."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(Restraint())
    n_calls = 0

    def fail() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == CALLS:
            loop.stop()
        loop.call_soon(fail)
        raise OSError(12, "Cannot allocate memory")

    loop.call_soon(fail)
    started_s = time.monotonic()
    loop.run_forever()
    loop.close()
    return time.monotonic() - started_s


@pytest.mark.filterwarnings("ignore")
def test_errors_in_a_row_are_spread_and_all_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert failing_loop() > 0.02 * (CALLS - 5)  # all but the first few, each with a rest
    assert sum("Exception in callback" in text for text in caplog.messages) == CALLS
