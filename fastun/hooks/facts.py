"""What a hook finds in its environment.

Peers choose some of these texts. Each is a whole value, without control characters and of bounded
length; what a script does with it is the script's care.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.config.hooks import search_path
from fastun.errors import one_line
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.config.settings import Settings
    from fastun.link.table import Link

# The kernel takes 128 KiB for one. A peer may have 130,000 allowed IPs.
VALUE_CHARS_MAX: Final = 8192

_NO_KEY: Final = bytes(32)


def of_gateway(settings: Settings, event: str, addresses: Iterable[object]) -> dict[str, str]:
    """Return the environment of a hook: all of it."""
    return _clean(
        {
            "PATH": search_path(),
            "LANG": "C.UTF-8",
            "FASTUN_EVENT": event,
            "FASTUN_INTERFACE": settings.interface,
            "FASTUN_ROLE": settings.role,
            "FASTUN_MODE": settings.mode,
            "FASTUN_ADDRESSES": _listed(addresses),
        }
    )


def of_peer(link: Link, event: str) -> dict[str, str]:
    """Return what is added for a peer, whose link it is that has come or gone."""
    peer = link.slotted.peer
    scheme = "" if "://" in link.remote else f"{link.transport}://"
    facts = {
        "FASTUN_PEER": peer.name,
        "FASTUN_PEER_ALLOWED_IPS": _listed(peer.allowed_ips),
        "FASTUN_PEER_ENDPOINT": f"{scheme}{link.remote}",
        "FASTUN_PEER_TRANSPORT": link.transport,
        "FASTUN_PEER_SOFTWARE": link.peer_software,
    }
    if peer.public_key != _NO_KEY:
        facts["FASTUN_PEER_PUBLIC_KEY"] = format_key(peer.public_key)
    if event == "peer_down":
        facts["FASTUN_REASON"] = link.end_reason
    return _clean(facts)


def _clean(facts: dict[str, str]) -> dict[str, str]:
    return {name: one_line(value)[:VALUE_CHARS_MAX] for name, value in facts.items()}


def _listed(items: Iterable[object]) -> str:
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
