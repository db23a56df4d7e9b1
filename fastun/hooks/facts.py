"""What a hook finds in its environment of a peer (host/hooks/facts.py has the rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun.host.hooks.facts import clean, listed
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from fastun.link.table import Link

_NO_KEY: Final = bytes(32)


def of_peer(link: Link, event: str) -> dict[str, str]:
    """Return what is added for a peer, whose link it is that has come or gone."""
    peer = link.slotted.peer
    scheme = "" if "://" in link.remote else f"{link.transport}://"
    facts = {
        "FASTUN_PEER": peer.name,
        "FASTUN_PEER_ALLOWED_IPS": listed(peer.allowed_ips),
        "FASTUN_PEER_ENDPOINT": f"{scheme}{link.remote}",
        "FASTUN_PEER_TRANSPORT": link.transport,
        "FASTUN_PEER_SOFTWARE": link.peer_software,
    }
    if peer.public_key != _NO_KEY:
        facts["FASTUN_PEER_PUBLIC_KEY"] = format_key(peer.public_key)
    if event == "peer_down":
        facts["FASTUN_REASON"] = link.end_reason
    return clean(facts)
