"""What is set of a TUN or TAP device itself, to be restored where the device outlives us."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fastun.host.netlink import links
from fastun.host.netlink.kernel import Kernel
from fastun.host.netlink.links import ChangeLink, FoundLink

_KIND: Final = "tun"  # of both, as the kernel calls it
_GEN_MODE: Final = "/proc/sys/net/ipv6/conf/{}/addr_gen_mode"

#: A `gen_mode`: what it is, or of a kernel without IPv6.
UNCHANGED: Final = -1

_U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]


class LinkState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one device."""

    is_up: bool
    mtu: _U32
    queue_frames: _U32
    gso_max_bytes: _U32
    gen_mode: Annotated[int, Meta(ge=-1, le=3)]  # how it gets its link-local address, if at all
    bridge: _U32 = 0  # the index of what it is a port of

    def back_to(self, before: LinkState, ours: LinkState, *, any_mtu: bool) -> LinkState:
        """Return it with all that is still ``ours`` as it was ``before``."""
        restored = {
            name: getattr(before, name)
            for name in self.__struct_fields__
            if getattr(self, name) == getattr(ours, name)
        }
        if any_mtu:
            restored["mtu"] = before.mtu
        return msgspec.structs.replace(self, **restored)


def read(index: int) -> LinkState | None:
    """Return it for a device by its index; None where there is none, or not a TUN or TAP device."""
    link = _tun(index)
    if link is None:
        return None
    gen_mode = UNCHANGED
    with contextlib.suppress(OSError, ValueError):
        gen_mode = int(Path(_GEN_MODE.format(link.name)).read_text(encoding="ascii"))
    return LinkState(
        is_up=link.is_up,
        mtu=link.mtu,
        queue_frames=link.queue_frames,
        gso_max_bytes=link.gso_max_bytes,
        gen_mode=gen_mode,
        bridge=link.bridge,
    )


def write(index: int, state: LinkState) -> None:
    """Set what is not so yet. Raises OSError."""
    now = read(index)
    if now is None or now == state:
        return
    if now.gen_mode != state.gen_mode != UNCHANGED:
        # By netlink: to write the sysctl would give the device an address at once.
        with Kernel(index) as kernel:
            kernel.set_automatic_address(state.gen_mode)
    changed = {
        name: getattr(state, name)
        for name in ("mtu", "queue_frames", "gso_max_bytes", "bridge")
        if getattr(now, name) != getattr(state, name)
    }
    if changed:
        links.change(index, ChangeLink(**changed))
    if now.is_up != state.is_up:
        links.change(index, ChangeLink(is_up=state.is_up))


def unused(interface: str) -> int:
    """Return the index of a TUN or TAP device that no program has open, 0 where there is none.

    Such a device has no carrier.
    """
    with contextlib.suppress(OSError):
        link = _tun(socket.if_nametoindex(interface))
        # Another name of an interface leads to it as well (ip-link(8), altname).
        if link is not None and link.name == interface and not link.has_carrier:
            return link.index
    return 0


def tun_devices() -> dict[str, bool]:
    """Return all TUN and TAP devices by name, with whether a program has each open."""
    return {link.name: link.has_carrier for link in links.found() if link.kind == _KIND}


def _tun(index: int) -> FoundLink | None:
    link = links.of(index)
    return link if link is not None and link.kind == _KIND else None
