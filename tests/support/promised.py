"""Limits of time that are promised: they hold where they are measured, not on any machine.

`make soak` and `make reliability` hold a test to them. Otherwise, as in CI, it runs beside others,
on a machine that is slower then and may stand still for seconds. There the limit only tells what
works late from what does not: it is shorter than whatever would help a tunnel anyway, such as the
15 s after which WireGuard makes a new session.
"""

from __future__ import annotations

import os
from typing import Final

IS_MEASURED: Final = os.environ.get("FASTUN_SOAK") == "1" or bool(os.environ.get("FASTUN_FIGURES"))

_SLOWER: Final = 2.0
_STANDSTILL_S: Final = 5.0


def promised_s(limit_s: float) -> float:
    """Return what to hold a test to that has ``limit_s`` promised."""
    return limit_s if IS_MEASURED else _SLOWER * limit_s + _STANDSTILL_S
