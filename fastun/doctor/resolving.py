"""Whether names can be, and are, looked up at a tunnel's DNS servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.doctor.finding import finding
from fastun.host.dns import resolver

if TYPE_CHECKING:
    from fastun.config.settings import ConnectSettings
    from fastun.doctor.finding import Finding, Subject
    from fastun.status.reply import DnsStatus, Status


def check(subject: Subject) -> Finding:
    """Return what manages this host's resolver, and whether running tunnels' servers answer."""
    having = [gateway.dns for gateway in subject.gateways if gateway.dns is not None]
    for dns in having:
        if dns.fault:
            return _faulty(dns)
    if having:
        servers = " ".join(server for dns in having for server in dns.servers)
        return finding("ok", f"{servers} by {having[0].manager}")
    manager = resolver.manager()
    split = "" if manager == "resolvectl" else "; split DNS needs systemd-resolved"
    return finding("ok", f"a tunnel's servers would be set in {resolver.WORDS[manager]}{split}")


def _faulty(dns: DnsStatus) -> Finding:
    fix = "see what the log says of DNS, and whether the servers are reached through the tunnel"
    return finding("FAIL", f"{' '.join(dns.servers)}: {dns.fault}", fix)


def dns_of(settings: ConnectSettings, gateway: Status | None) -> Finding:
    """Return what is found of a client; ``gateway``: what it says, where it is running."""
    if gateway is not None and gateway.dns is not None:
        servers = " ".join(gateway.dns.servers)
        if gateway.dns.fault:
            return _faulty(gateway.dns)
        return finding("ok", f"{servers} by {gateway.dns.manager}")
    manager = resolver.manager()
    is_split = any(name.startswith(resolver.ROUTING_ONLY) for name in settings.dns_search)
    if is_split and manager != "resolvectl":
        fix = "install and use systemd-resolved, or remove the ~"
        return finding("warn", "split DNS needs systemd-resolved: all names will be inside", fix)
    return finding("ok", f"servers are set in {resolver.WORDS[manager]}")
