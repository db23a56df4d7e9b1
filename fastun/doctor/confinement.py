"""What ``fastun doctor`` finds of a gateway's confinement, and what its host process keeps."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from fastun.doctor.finding import Finding, Subject, capabilities, finding
from fastun.status.confinement import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

# From which version of its interface on Landlock knows a right that a gateway gives up.
_LANDLOCK_OF: Final = ((4, "TCP ports", "6.7"), (6, "abstract sockets", "6.12"))

# linux/capability.h; what the host process does by it, beside CAP_NET_ADMIN.
_HELPFUL: Final = (
    (10, "CAP_NET_BIND_SERVICE", "ports under 1024 cannot be listened on"),
    (13, "CAP_NET_RAW", "a smaller path MTU is noticed later"),
    (19, "CAP_SYS_PTRACE", "the gateway itself refuses a source that goes on connecting"),
)


def _landlock_lacks(version: int) -> Iterator[str]:
    for first, what, kernel in _LANDLOCK_OF:
        if 0 < version < first:
            yield f"Landlock for {what} (Linux {kernel})"


def gateway(_: Subject) -> Finding:
    """Check what a gateway would be confined to, if this process started it."""
    from fastun import import_paths, native  # noqa: PLC0415 (it may not load: that is a finding)
    from fastun.host import users  # noqa: PLC0415 (as above)

    found, chosen = native.probe_confinement(), users.choose()
    lacks = [*found.lacks, *_landlock_lacks(found.landlock)]
    user = chosen.gateway
    if user and not import_paths.open_to_others():
        user = 0
        lacks.append(f"a user of its own (only this one may read {sys.prefix})")
    elif not user:
        lacks.append(f"a user of its own ({chosen.why})")
    said = describe(user or found.user, found.landlock, has_filter=found.has_filter, lacks=lacks)
    if found.lacks:
        fix = "optional: a kernel that has them limits what a broken gateway can do"
        return finding("warn", f"confined: {said}", fix)
    return finding("ok", f"confined: {said}")


def fleet(subject: Subject) -> Finding:
    """Say how the process that follows a fleet's directory is confined, and whether it can."""
    gateway = next((each for each in subject.gateways if each.fleet is not None), None)
    if gateway is None or gateway.fleet is None:
        return finding("ok", "no gateway that runs here belongs to one")
    of, now = f"{gateway.interface}: {gateway.fleet.name}", gateway.fleet
    if now.fault:
        fix = "nothing that is known is lost; its peers are those of the last time until then"
        return finding("warn", f"{of}: the directory is not followed: {now.fault}", fix)
    if now.confinement is None:
        return finding("unknown", f"{of}: its process has not begun")
    has = now.confinement
    said = describe(has.user, has.landlock, has_filter=has.seccomp, lacks=has.lacks)
    return finding("warn" if has.lacks else "ok", f"{of}: confined: {said}")


def host_process(_: Subject) -> Finding:
    """Check what the host process would keep, if this process started it."""
    held = capabilities()
    missing = [f"{name}: {cost}" for bit, name, cost in _HELPFUL if not held >> bit & 1]
    n = held.bit_count()
    said = (
        f"keeps the start's {n} capabilit{'y' if n == 1 else 'ies'}" if n else "has no capability"
    )
    return finding("ok", f"{said}; without {'; '.join(missing)}" if missing else said)
