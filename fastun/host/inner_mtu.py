"""The inner MTU: the longest packet that the device takes or gives, in bytes.

Owned here, and by nothing else: set from the configuration, changed when a server pushes another.
What depends on it subscribes, or reads ``bytes`` when it needs it. The MTU of the path outside, to
one peer, is another thing: the path MTU (fastun/link/datagram/path_mtu.py).
"""

from __future__ import annotations

from collections.abc import Callable


class InnerMtu:
    """Changed on the event loop only; any thread may read ``bytes``."""

    def __init__(self, n_bytes: int) -> None:
        """Begin with what is configured."""
        self._bytes = n_bytes
        self._subscribers: list[Callable[[int], None]] = []

    @property
    def bytes(self) -> int:
        """What it is now."""
        return self._bytes

    def subscribe(self, follow: Callable[[int], None]) -> None:
        """Call ``follow`` with each new value, in the order of subscription."""
        self._subscribers.append(follow)

    def change(self, n_bytes: int) -> bool:
        """Set it; return whether it is another one."""
        if n_bytes == self._bytes:
            return False
        self._bytes = n_bytes
        for follow in self._subscribers:
            follow(n_bytes)
        return True
