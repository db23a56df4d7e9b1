"""What a hook finds in its environment.

Peers choose some of these texts. Each is a whole value, without control characters and of bounded
length; what a script does with it is the script's care.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.config.hooks import search_path
from fastun.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastun.config.settings import Settings

# The kernel takes 128 KiB for one. A peer may have 130,000 allowed IPs.
VALUE_CHARS_MAX: Final = 8192


def of_gateway(settings: Settings, event: str, addresses: Iterable[object]) -> dict[str, str]:
    """Return the environment of a hook: all of it but what is of a peer."""
    return clean(
        {
            "PATH": search_path(),
            "LANG": "C.UTF-8",
            "FASTUN_EVENT": event,
            "FASTUN_INTERFACE": settings.interface,
            "FASTUN_ROLE": settings.role,
            "FASTUN_MODE": settings.mode,
            "FASTUN_ADDRESSES": listed(addresses),
        }
    )


def clean(facts: Mapping[str, str]) -> dict[str, str]:
    """Return them in a line each, and cut."""
    return {name: one_line(value)[:VALUE_CHARS_MAX] for name, value in facts.items()}


def listed(items: Iterable[object]) -> str:
    """Return as many as fit, separated by spaces."""
    words: list[str] = []
    room = VALUE_CHARS_MAX
    for item in items:
        word = str(item)
        room -= len(word) + 1
        if room < 0:
            break
        words.append(word)
    return " ".join(words)
