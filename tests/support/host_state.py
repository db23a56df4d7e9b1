"""What a tunnel may change of a host, as text that can be compared: before, and after it ended."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.host.process.main import TITLE

if TYPE_CHECKING:
    from fastun.lab.host import Host

_NET = Path("/proc/sys/net")
# Counts, not settings; and what the lab itself changes for the hosts of all tests.
_NOT_COMPARED = ("nf_conntrack_count", "tcp_allowed_congestion_control")


def host_state(host: Host, *files: Path) -> dict[str, str]:
    """Return routes of all tables, rules, addresses, settings, nft's ruleset, and ``files``."""
    state = {f"file {file}": file.read_text() if file.exists() else "" for file in files}
    for family in ("-4", "-6"):
        routes = host.ip(family, "route", "show", "table", "all").splitlines()
        state[f"routes {family}"] = "\n".join(sorted(line.strip() for line in routes))
        state[f"rules {family}"] = host.ip(family, "rule")
    for link in json.loads(host.ip("-json", "address")):
        addresses = [f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]]
        fields = [f"{name} {link.get(name)}" for name in ("mtu", "txqlen", "flags")]
        state[f"interface {link['ifname']}"] = "\n".join([*fields, *sorted(addresses)])
    state["nft"] = host.run("nft", "-s", "list", "ruleset").stdout
    return state | host.inside(_settings)


def _settings() -> dict[str, str]:
    found = {}
    for path in _NET.rglob("*"):
        if path.name not in _NOT_COMPARED:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found[str(path)] = path.read_text(encoding="ascii")
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what is not as before, in words."""
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def is_host_process(pid: int) -> bool:
    """Return whether it is the process of a fastun that changes the host."""
    return Path("/proc", str(pid), "cmdline").read_bytes().startswith(TITLE.encode() + b"\0")
