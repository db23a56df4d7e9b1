"""What is set of a TUN or TAP device itself, to be restored where the device outlives us."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from fastun.host.netlink.iproute import IPRoute, NetlinkError
from fastun.host.netlink.kernel import Kernel

_IFF_UP: Final = 1
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
    with IPRoute() as netlink:
        return _read(netlink, index)


def _read(netlink: IPRoute, index: int) -> LinkState | None:
    link = _link(netlink, index)
    if link is None:
        return None
    gen_mode = UNCHANGED
    with contextlib.suppress(OSError, ValueError):
        path = Path(_GEN_MODE.format(link.get_attr("IFLA_IFNAME")))
        gen_mode = int(path.read_text(encoding="ascii"))
    return LinkState(
        is_up=bool(link["flags"] & _IFF_UP),
        mtu=link.get_attr("IFLA_MTU"),
        queue_frames=link.get_attr("IFLA_TXQLEN"),
        gso_max_bytes=link.get_attr("IFLA_GSO_MAX_SIZE"),
        gen_mode=gen_mode,
        bridge=link.get_attr("IFLA_MASTER") or 0,
    )


def write(index: int, state: LinkState) -> None:
    """Set what is not so yet. Raises OSError."""
    with IPRoute() as netlink:
        now = _read(netlink, index)
        if now is None or now == state:
            return
        if now.gen_mode != state.gen_mode != UNCHANGED:
            # By netlink: to write the sysctl would give the device an address at once.
            with Kernel(index) as kernel:
                kernel.set_automatic_address(state.gen_mode)
        fields = {
            "mtu": (now.mtu, state.mtu),
            "txqlen": (now.queue_frames, state.queue_frames),
            "master": (now.bridge, state.bridge),
            "gso_max_size": (now.gso_max_bytes, state.gso_max_bytes),
        }
        changed = {name: wanted for name, (is_now, wanted) in fields.items() if is_now != wanted}
        try:
            if changed:
                netlink.link("set", index=index, **changed)
            if now.is_up != state.is_up:
                netlink.link("set", index=index, state="up" if state.is_up else "down")
        except NetlinkError as error:
            raise OSError(error.code, str(error)) from None


def unused(interface: str) -> int:
    """Return the index of a TUN or TAP device that no program has open, 0 where there is none.

    Such a device has no carrier.
    """
    with IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=interface):
            link = _link(netlink, index)
            if link is not None and not link.get_attr("IFLA_CARRIER"):
                return int(index)
    return 0


def tun_devices() -> dict[str, bool]:
    """Return all TUN and TAP devices by name, with whether a program has each open."""
    with IPRoute() as netlink:
        links = [link for link in netlink.get_links() if _is_tun(link)]
    return {link.get_attr("IFLA_IFNAME"): bool(link.get_attr("IFLA_CARRIER")) for link in links}


def _link(netlink: IPRoute, index: int) -> Any:
    try:
        (link,) = netlink.get_links(index)
    except (NetlinkError, ValueError):
        return None
    return link if _is_tun(link) else None


def _is_tun(link: Any) -> bool:
    info = link.get_attr("IFLA_LINKINFO")
    return info is not None and info.get_attr("IFLA_INFO_KIND") == "tun"
