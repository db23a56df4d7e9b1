"""The network interfaces that the kernel has, and what is set of one.

Source: rtnetlink(7), linux/if_link.h, net/core/rtnetlink.c (rtnl_getlink, do_setlink).
"""

from __future__ import annotations

import contextlib
import struct
from typing import Final

import msgspec

from fastun.host.netlink.netlink import Message, Netlink
from fastun.host.netlink.rtnetlink import attribute, attributes_of, number

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_IFINFO: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_U32: Final = struct.Struct("=I")
_IFF_UP: Final = 1

_IFNAME, _MTU, _MASTER, _TXQLEN, _LINKINFO, _CARRIER, _GSO_MAX_SIZE = 3, 4, 10, 13, 18, 33, 41
_INFO_KIND: Final = 1  # of what is nested in IFLA_LINKINFO


class FoundLink(msgspec.Struct, frozen=True):
    """An interface. `kind` as ip-link(8) has it, "" for hardware; `bridge` is an index, or 0."""

    index: int
    name: str
    kind: str
    is_up: bool
    has_carrier: bool
    mtu: int
    queue_frames: int
    gso_max_bytes: int
    bridge: int


class ChangeLink(msgspec.Struct, frozen=True):
    """What to set of an interface; None stays as it is. A `bridge` of 0: it leaves the one it has.

    `mtu` and `gso_max_bytes` in bytes.
    """

    mtu: int | None = None
    queue_frames: int | None = None
    gso_max_bytes: int | None = None
    bridge: int | None = None
    is_up: bool | None = None


def found() -> list[FoundLink]:
    """Return all of this thread's network namespace. Raises OSError."""
    with Netlink() as netlink:
        return [_link(body) for body in netlink.dump(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]


def of(index: int) -> FoundLink | None:
    """Return one by its index, None where it is gone. Raises OSError: there is no socket."""
    with Netlink() as netlink, contextlib.suppress(OSError):
        for body in netlink.ask(_RTM_GETLINK, _IFINFO.pack(0, 0, index, 0, 0)):
            return _link(body)
    return None


def change(index: int, wanted: ChangeLink) -> None:
    """Set what is wanted. Raises OSError."""
    mask = 0 if wanted.is_up is None else _IFF_UP
    body = _IFINFO.pack(0, 0, index, mask if wanted.is_up else 0, mask)
    for kind, value in (
        (_MTU, wanted.mtu),
        (_TXQLEN, wanted.queue_frames),
        (_GSO_MAX_SIZE, wanted.gso_max_bytes),
        (_MASTER, wanted.bridge),
    ):
        body += b"" if value is None else attribute(kind, _U32.pack(value))
    with Netlink() as netlink:
        netlink.change_one(Message(_RTM_NEWLINK, 0, body))


def _link(body: bytes) -> FoundLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    attributes = dict(attributes_of(body[_IFINFO.size :]))
    info = dict(attributes_of(attributes.get(_LINKINFO, b"")))

    def value(kind: int) -> int:
        return number(attributes[kind]) if kind in attributes else 0

    return FoundLink(
        index=index,
        name=_text(attributes.get(_IFNAME, b"")),
        kind=_text(info.get(_INFO_KIND, b"")),
        is_up=bool(flags & _IFF_UP),
        has_carrier=bool(value(_CARRIER)),
        mtu=value(_MTU),
        queue_frames=value(_TXQLEN),
        gso_max_bytes=value(_GSO_MAX_SIZE),
        bridge=value(_MASTER),
    )


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode(errors="replace")
