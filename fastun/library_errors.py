"""What fails in the event loop itself, where nothing of ours can catch it.

asyncio reports the error and goes on. A callback that fails although its descriptor is ready (no
memory, say) comes again at once, so after a few such in a row the process rests between two.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

_FREE: Final = 4
_WINDOW_S: Final = 0.1
_REST_S: Final = 0.02


class Restraint:
    """Of one event loop: its exception handler."""

    def __init__(self) -> None:
        """Begin without any."""
        self._n = 0  # in a row
        self._last_s = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an error as asyncio does, and rest if they come one behind the other."""
        loop.default_exception_handler(context)
        now_s = time.monotonic()
        self._n = self._n + 1 if now_s - self._last_s < _WINDOW_S else 1
        if self._n > _FREE:
            time.sleep(_REST_S)
        self._last_s = now_s
