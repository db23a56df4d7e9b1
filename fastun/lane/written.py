"""As which roles a worker writes figures."""

from __future__ import annotations

from fastun.lane.messages import Boot


def writers_of(role: str, boot: Boot) -> tuple[str, ...]:
    """Return its own role, and of a reader that of the sleeping writer whose steps it does."""
    writer = {"tun-reader": "link-writer", "link-reader": "tun-writer"}.get(role)
    return (role, writer) if writer is not None and boot.waiting.hands_over else (role,)
