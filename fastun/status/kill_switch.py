"""What ``fastun status`` says of kill switches, also of one whose gateway is gone."""

from __future__ import annotations

from typing import Final

WORDS: Final = {
    "on": "on: nothing leaves this host beside the tunnel",
    "lan": "on: nothing leaves this host beside the tunnel, but to private networks it is in",
}


def left_over() -> str:
    """Return what to know of those whose gateways are gone, to follow a sentence; or nothing."""
    from fastun.host.firewall import kill_switch_found  # noqa: PLC0415 (for this line alone)

    try:
        names = kill_switch_found.interfaces()
    except OSError:  # not root, or a kernel without nftables
        return ""
    if not names:
        return ""
    return f"; the kill switch of {names[0]} is set: 'fastun disconnect -i {names[0]}' removes it"
