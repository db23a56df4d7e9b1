"""Settings below /proc/sys/net that a tunnel needs, and those of the host that are in its way."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.host.journal import sysctls
from fastun.host.journal.sysctls import SEND_REDIRECTS, SRC_VALID_MARK
from fastun.host.wanted import Change, Refusal

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.journal.journal import Journal
    from fastun.host.netlink.netlink import Fault
    from fastun.host.routing.placing import Placed

_CONF: Final = Path("/proc/sys/net/ipv4/conf")
_IPV6: Final = Path("/proc/net/if_inet6")
_OFF, _STRICT, _LOOSE = 0, 1, 2  # Documentation/networking/ip-sysctl.rst, rp_filter
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


def apply(
    journal: Journal, settings: Settings, interface: str, placed: Placed, refused: list[Refusal]
) -> list[Change]:
    """Set what these routes need; return what was not set so.

    Adds to ``refused`` what cannot be set, or is in their way.
    """
    made: list[Change] = []
    if any(kind.version == 4 for kind in placed.levels):  # noqa: PLR2004
        # Only matters to strict rp_filter, about which there is a warning of its own.
        made += _set(journal, SRC_VALID_MARK, "1")
        refused += _strict(interface)
    if settings.mode == "tun" and (settings.role == "serve" or len(settings.peers) > 1):
        # A packet from one peer to another has to leave by the interface it came by.
        # The kernel sends redirects if either of the two says so.
        for where in (interface, "all"):
            name = SEND_REDIRECTS.format(where)
            made += _set(journal, name, "0", refused if where == interface else None)
    return made


def _set(
    journal: Journal, name: str, value: str, refused: list[Refusal] | None = None
) -> list[Change]:
    """Set it, unless the journal has done so and it is still so; ``refused`` learns why not."""
    item = name.replace("/", ".")
    try:
        if journal.has_set(name) and sysctls.read(name) == value:
            return []
        journal.set_sysctl(name, value)
    except OSError as error:
        if refused is not None and not _is_set(name, value):
            by_starter = sysctls.where_started(error, *_redirects_off())
            by_hand = f"run 'sysctl -w {item}={value}'"
            advice = f"{by_starter or by_hand}; peers get ICMP redirects otherwise"
            refused.append(Refusal("setting", item, f"cannot be set: {error.strerror}", advice))
        return []
    return [Change("setting", item)]


def _redirects_off() -> list[str]:
    """Return with which settings a new device sends none."""
    return [f"{SEND_REDIRECTS.format(which)}=0".replace("/", ".") for which in ("all", "default")]


def _is_set(name: str, value: str) -> bool:
    try:
        return sysctls.read(name) == value
    except OSError:
        return False


def _strict(interface: str) -> list[Refusal]:
    """Return interfaces whose source validation would drop all that the peer sends."""
    try:
        modes = {
            path.parent.name: int(path.read_text(encoding="ascii"))
            for path in _CONF.glob("*/rp_filter")
        }
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return [Refusal("setting", "rp_filter", f"cannot be read: {reason}")]
    for_all = modes.get("all", _OFF)
    strict = sorted(
        name
        for name, mode in modes.items()
        if name not in ("all", "default", "lo", interface) and max(mode, for_all) == _STRICT
    )
    if not strict:
        return []
    reason = f"strict on {' '.join(strict)}, which drops packets from the peer"
    return [Refusal("setting", "rp_filter", reason, f"set rp_filter to {_LOOSE} there")]


def is_without(version: int) -> bool:
    """Return whether this kernel lacks an IP version."""
    return version == 6 and not _IPV6.exists()  # noqa: PLR2004


def why_no_ipv6(fault: Fault, interface: str) -> tuple[str, str]:
    """Return why the kernel refuses something of IPv6, and what to do."""
    if fault.code in _NO_IPV6:
        return "this kernel has no IPv6", "remove the IPv6 addresses and routes"
    name = f"net/ipv6/conf/{interface}/disable_ipv6"
    try:
        is_off = sysctls.read(name) != "0"
    except OSError:
        is_off = False
    if not is_off:
        return str(fault), ""
    reason = f"IPv6 is turned off (sysctl {name.replace('/', '.')} is 1)"
    setting = "set net.ipv6.conf.default.disable_ipv6 to 0 and restart fastun"
    return reason, f"{setting}, or remove what is IPv6"
