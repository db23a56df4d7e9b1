"""How many control messages a peer may have looked at."""

from __future__ import annotations

from fastun.link.control_limit import CONTROLS_BURST, CONTROLS_PER_SECOND, ControlLimit


def test_a_burst_then_so_many_a_second() -> None:
    limit = ControlLimit()
    assert sum(limit.admit(1e6) for _ in range(1000)) == CONTROLS_BURST
    admitted = sum(limit.admit(1e6 + step / 1000) for step in range(1, 10_001))
    assert admitted == 10 * CONTROLS_PER_SECOND
    assert sum(limit.admit(2e6) for _ in range(1000)) == CONTROLS_BURST


def test_one_that_floods_is_not_kept_out_for_good() -> None:
    limit = ControlLimit()
    admitted = [limit.admit(1e6 + step * 1e-4) for step in range(100_000)]
    assert all(any(admitted[second : second + 1000]) for second in range(0, 100_000, 1000))
    assert CONTROLS_BURST + 198 <= sum(admitted) <= CONTROLS_BURST + 200


def test_a_bucket_begins_full_and_gives_whole_tokens() -> None:
    limit = ControlLimit()
    assert sum(limit.admit(0.0) for _ in range(1000)) == CONTROLS_BURST
    assert not limit.admit(0.9 / CONTROLS_PER_SECOND)
    assert limit.admit(1.1 / CONTROLS_PER_SECOND)
