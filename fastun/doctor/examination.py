"""``fastun doctor``: what fastun needs of this host, a finding a line, and the fix.

It changes nothing. Without root some checks are skipped, and reported as not checked. A finding is
FAIL where fastun would not run or would lose packets, warn where it would run worse or only with
another configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastun.doctor import (
    confinement,
    files,
    kernel,
    kill_switch,
    network,
    resolving,
    services,
    workers,
)
from fastun.doctor.finding import Finding, Subject, finding, named
from fastun.errors import FastunError

Check = Callable[[Subject], Finding]

CHECKS: dict[str, Check] = {
    "TUN device": kernel.tun_device,
    "CAP_NET_ADMIN": kernel.net_admin,
    "kernel": kernel.kernel,
    "super-packets": kernel.super_packets,
    "TUN writes": kernel.super_packet_writes,
    "UDP offload": kernel.udp_offload,
    "cipher": kernel.cipher,
    "libgcrypt": kernel.libgcrypt,
    "workers": workers.confinement,
    "gateway": confinement.gateway,
    "host process": confinement.host_process,
    "fleet": confinement.fleet,
    "locked memory": kernel.locked_memory,
    "open files": kernel.open_files,
    "state": files.state_directory,
    "private key": files.private_key,
    "peers": files.peer_directory,
    "run directory": files.run_directory,
    "services": services.check,
    "udp port": network.udp_port,
    "tcp port": network.tcp_port,
    "metrics port": network.metrics_port,
    "forwarding": network.forwarding,
    "rp_filter": network.source_validation,
    "nft": network.nft,
    "kill switch": kill_switch.check,
    "DNS": resolving.check,
    "congestion": network.congestion_control,
}


def examine(subject: Subject) -> Iterator[Finding]:
    """Yield what each check finds; one that could not be made says so."""
    for name, check in CHECKS.items():
        yield named(name, _checked(check, subject))


def _checked(check: Check, subject: Subject) -> Finding:
    try:
        return check(subject)
    except PermissionError as error:
        return finding("unknown", f"{error.filename}: permission denied", "run as root")
    except FastunError as error:
        return finding("unknown", str(error))
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return finding("unknown", message)
    except ImportError as error:
        fix = "install fastun again, as './run test' does"
        return finding("FAIL", f"a part of fastun cannot be loaded: {error}", fix)
