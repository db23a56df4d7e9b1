"""``fastun doctor``: what fastun needs of this host, a finding a line, and the fix.

It changes nothing. Without root some checks are skipped, and reported as not checked. A finding is
FAIL where fastun would not run or would lose packets, warn where it would run worse or only with
another configuration.
"""

from __future__ import annotations

import json
import platform
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from fastun import __version__
from fastun.doctor import files, kernel, network
from fastun.doctor.finding import Finding, Subject, Verdict, finding, named
from fastun.errors import FastunError, one_line

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
    "locked memory": kernel.locked_memory,
    "open files": kernel.open_files,
    "state": files.state_directory,
    "private key": files.private_key,
    "peers": files.peer_directory,
    "run directory": files.run_directory,
    "udp port": network.udp_port,
    "tcp port": network.tcp_port,
    "metrics port": network.metrics_port,
    "forwarding": network.forwarding,
    "rp_filter": network.source_validation,
    "nft": network.nft,
    "congestion": network.congestion_control,
}

# A verdict in the last line (for one and for several), and at the head of its own.
_SUMMARY: dict[Verdict, tuple[str, str]] = {
    "FAIL": ("failed", "failed"),
    "warn": ("warning", "warnings"),
    "unknown": ("not checked", "not checked"),
}
_MARKS: dict[Verdict, str] = {"ok": "ok", "warn": "warn", "FAIL": "FAIL", "unknown": "?"}

_COLUMNS = 80
_INDENT = " " * 21


def show(state: Path, run_dir: Path, as_json: bool) -> int:
    """Print the findings; return the exit code: 0, or 1 when one is FAIL."""
    findings = list(examine(Subject(state, run_dir)))
    failed = any(each.verdict == "FAIL" for each in findings)
    if as_json:
        report = {
            "version": __version__,
            "ok": not failed,
            "findings": [asdict(each) for each in findings],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return int(failed)
    sys.stdout.write(f"fastun {__version__}, Python {platform.python_version()}\n\n")
    for each in findings:
        sys.stdout.writelines(f"{line}\n" for line in _lines(each))
    sys.stdout.write(f"\n{_summary(findings)}\n")
    return int(failed)


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


def _lines(each: Finding) -> Iterator[str]:
    head = f"{_MARKS[each.verdict]:<6}{each.check:<15}"
    for text in (each.message, *([f"fix: {each.fix}"] if each.fix else [])):
        yield from textwrap.wrap(
            one_line(text),
            _COLUMNS,
            initial_indent=head,
            subsequent_indent=_INDENT,
            break_on_hyphens=False,
        )
        head = _INDENT


def _summary(findings: list[Finding]) -> str:
    counts = Counter(each.verdict for each in findings)
    words = [
        f"{counts[verdict]} {one if counts[verdict] == 1 else several}"
        for verdict, (one, several) in _SUMMARY.items()
        if counts[verdict]
    ]
    return ", ".join(words) or "all checks passed"
