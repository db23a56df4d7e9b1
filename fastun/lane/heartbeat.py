"""The message that asks a worker for a sign of life, and is the answer (watch.py)."""

from __future__ import annotations

from fastun.lane.messages import ToWorker


class Heartbeat(ToWorker, frozen=True, tag="heartbeat"):
    """To any worker, and back from it."""
