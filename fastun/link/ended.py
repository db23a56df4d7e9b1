"""Whether a link has ended, to be waited for."""

from __future__ import annotations

import asyncio


class Ended:
    """An asyncio.Event that is made when it is waited for: a thousand of them are a megabyte."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        """Begin unset."""
        self._event: asyncio.Event | None = None
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Wake all who wait, and let no one wait from now on."""
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it is set."""
        if not self._is_set:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()
