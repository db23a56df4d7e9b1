"""What ``fastun doctor`` looks at of the host's network: ports and settings of the kernel."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from fastun.config.document import MetricsSection
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.doctor.finding import PROC, Finding, Subject, finding
from fastun.endpoint import parse, parse_host_port
from fastun.host import programs

# By IP version.
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
# Of ports, by scheme.
KINDS: dict[str, socket.SocketKind] = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}
_STRICT = 1  # Documentation/networking/ip-sysctl.rst, rp_filter


def udp_port(subject: Subject) -> Finding:
    """Check the default udp port of serve."""
    return _default_listen(subject, DEFAULT_UDP, socket.SOCK_DGRAM)


def tcp_port(subject: Subject) -> Finding:
    """Check the default tcp port of serve."""
    return _default_listen(subject, DEFAULT_TCP, socket.SOCK_STREAM)


def metrics_port(subject: Subject) -> Finding:
    """Check the port that Prometheus scrapes."""
    where = MetricsSection().listen
    host, port = parse_host_port(where)
    holder = next((each.interface for each in subject.gateways if each.metrics == where), "")
    fix = "stop it, or choose another with --metrics"
    return _port(where, (host, port or 0), socket.SOCK_STREAM, holder, fix)


def forwarding(subject: Subject) -> Finding:
    """Check that peers of one server reach each other, where there are several.

    Of a gateway that forwards: that no other program's rules keep it from that.
    """
    forwarding = [each for each in subject.gateways if each.forward is not None]
    for gateway in forwarding:
        for obstacle in gateway.forward.obstacles if gateway.forward else ():
            message, _, fix = obstacle.partition("; ")
            return finding("FAIL", f"{gateway.interface}: {message}", fix)
    if forwarding:
        names = " ".join(each.interface for each in forwarding)
        return finding("ok", f"{names}: forwarded, and no other program's rules are in the way")
    peers = subject.peers_known()
    versions = {prefix.version for peer in peers for prefix in peer.allowed_ips}
    off = [name for version, name in _FORWARDING.items() if version in versions or not peers]
    off = [name for name in off if not int(_sysctl(name))]
    settings = "; ".join(f"sysctl -w {name.replace('/', '.')}=1" for name in off)
    fix = f"start 'fastun serve' with --forward; or, without its rules, {settings}"
    if not off:
        return finding("ok", "packets are forwarded between peers and networks")
    if len(peers) > 1:
        message = f"{len(peers):,} peers reach this host, but not each other or what is behind it"
        return finding("warn", message, fix)
    return finding("ok", "off; only a server of several peers needs it")


def nft(_: Subject) -> Finding:
    """Check for the program that keeps the network's other hosts from the tunnel's addresses."""
    if programs.find("nft"):
        return finding(
            "ok", "nft is installed (to drop packets for the tunnel on other interfaces)"
        )
    message = (
        "nft is missing: other hosts on the network can reach this host's address in the tunnel"
    )
    return finding("warn", message, "install the package nftables")


def source_validation(_: Subject) -> Finding:
    """Check that answers of a peer that is the default route are not taken for forged ones."""
    of_all = int(_sysctl("net/ipv4/conf/all/rp_filter"))
    strict = [
        path.parent.name
        for path in sorted((PROC / "sys/net/ipv4/conf").glob("*/rp_filter"))
        if path.parent.name not in ("all", "default", "lo")
        # The kernel takes the higher of the two.
        and max(of_all, int(path.read_text(encoding="ascii"))) == _STRICT
    ]
    if not strict:
        return finding("ok", "rp_filter is off or loose")
    names = " ".join(strict)
    message = (
        f"rp_filter is strict on {names}: with a default route in the tunnel, answers are lost"
    )
    return finding("warn", message, "sysctl -w net.ipv4.conf.all.rp_filter=2")


def congestion_control(_: Subject) -> Finding:
    """Report what paces links over tcp."""
    return finding("ok", f"links over tcp use {_sysctl('net/ipv4/tcp_congestion_control')}")


# -- ports ------------------------------------------------------------------------------------


def _default_listen(subject: Subject, url: str, kind: socket.SocketKind) -> Finding:
    endpoint = parse(url)
    suffix = f":{endpoint.port}"
    holder = next(
        (
            gateway.interface
            for gateway in subject.gateways
            for listened in gateway.listen
            if listened.startswith(f"{endpoint.scheme}://") and listened.endswith(suffix)
        ),
        "",
    )
    fix = f"stop it, or choose another, as in --listen {endpoint.scheme}://[::]:PORT"
    return _port(url, (endpoint.host, endpoint.port), kind, holder, fix)


def _port(
    name: str, address: tuple[str, int], kind: socket.SocketKind, holder: str, fix: str
) -> Finding:
    try:
        bind(address, kind)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return finding("warn", f"{name}: {error.strerror}", "choose another address")
        if holder:
            return finding("ok", f"{name} is in use by the gateway of {holder}")
        return finding("warn", f"{name} is in use by another program", fix)
    return finding("ok", f"{name} is free")


def bind(address: tuple[str, int], kind: socket.SocketKind) -> None:
    """Take the port for a moment, without blocking. Raises OSError."""
    host, port = address
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104 (what [::] asks for)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:  # as a server does: old connections are no matter
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _sysctl(name: str) -> str:
    return Path(PROC, "sys", name).read_text(encoding="ascii").strip()
