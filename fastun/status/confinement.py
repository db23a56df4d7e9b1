"""How ``fastun status`` and ``fastun doctor`` say what workers are confined to."""

from __future__ import annotations

from collections.abc import Sequence


def describe(user: int, landlock: int, *, has_filter: bool, lacks: Sequence[str]) -> str:
    """Return the user's number and what holds, and then what does not."""
    said = [f"user {user}", "no capabilities"]
    if has_filter:
        said.append("seccomp")
    if landlock:
        said.append(f"Landlock {landlock}")
    return ", ".join(said) + "".join(f"; without {what}" for what in lacks)
