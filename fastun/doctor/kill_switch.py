"""Whether a kill switch is set on this host, and whether its fastun runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.doctor.finding import Finding, finding
from fastun.host.firewall import kill_switch_found
from fastun.host.firewall.kill_switch_found import by_hand

if TYPE_CHECKING:
    from fastun.doctor.finding import Subject


def check(subject: Subject) -> Finding:
    """Say which are set, and warn of one that was left."""
    found = interfaces()
    if found is None:
        return finding("unknown", "nftables cannot be read", "run as root")
    if not found:
        return finding("ok", "none is set")
    running = {gateway.interface for gateway in subject.gateways}
    left = [name for name in found if name not in running]
    if left:
        message = f"that of {left[0]} is set, its fastun is not running: nothing leaves this host"
        return finding("warn", message, f"start it again, or run '{by_hand(left[0])}'")
    return finding("ok", f"set: nothing leaves this host beside {found[0]}")


def interfaces() -> tuple[str, ...] | None:
    """Return the interfaces that have one, None where that cannot be read."""
    try:
        return kill_switch_found.interfaces()
    except PermissionError:
        return None
    except OSError:  # a kernel without nftables
        return ()
