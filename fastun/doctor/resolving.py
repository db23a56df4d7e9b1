"""Whether names can be, and are, looked up at a tunnel's DNS servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.doctor.finding import finding
from fastun.host import resolver

if TYPE_CHECKING:
    from fastun.config.settings import ConnectSettings
    from fastun.doctor.finding import Finding
    from fastun.status.reply import Status


def dns_of(settings: ConnectSettings, gateway: Status | None) -> Finding:
    """Return what is found of a client; ``gateway``: what it says, where it is running."""
    if gateway is not None and gateway.dns is not None:
        servers = " ".join(gateway.dns.servers)
        if gateway.dns.fault:
            fix = "see the servers, and what is said of them in the log"
            return finding("FAIL", f"{servers}: {gateway.dns.fault}", fix)
        return finding("ok", f"{servers} by {gateway.dns.manager}")
    manager = resolver.manager()
    is_split = any(name.startswith(resolver.ROUTING_ONLY) for name in settings.dns_search)
    if is_split and manager != "resolvectl":
        fix = "install and use systemd-resolved, or remove the ~"
        return finding("warn", "split DNS needs systemd-resolved: all names will be inside", fix)
    return finding("ok", f"servers are set in {resolver.WORDS[manager]}")
