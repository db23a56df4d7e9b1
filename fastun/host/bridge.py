"""The bridge that a TAP device is to be a port of.

One that is not there yet is waited for, like an address to listen on: the device joins when it has
come. Another interface of that name is an error.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.host.netlink.kernel import SetLink

if TYPE_CHECKING:
    from fastun.host.netlink.kernel import Kernel, Link

#: Reasons and what to do.
NOT_A_BRIDGE: Final = "it is an interface, but not a bridge"
_NOT_THERE: Final = "there is no such interface; the device joins it when it is there"

_BRIDGE: Final = "/sys/class/net/{}/bridge"


def join(kernel: Kernel, link: Link, bridge: str) -> tuple[str, str] | bool:
    """Make the device a port of it; return whether that was to be done, or why not and what to do.

    Raises OSError where the device is gone.
    """
    try:
        index = socket.if_nametoindex(bridge)
    except OSError:
        return _NOT_THERE, f"ip link add {bridge} type bridge; ip link set {bridge} up"
    if link.master == index:
        return False
    faults = kernel.change([SetLink(master=index)])
    if not faults:
        return True
    if not _is_bridge(bridge):
        return NOT_A_BRIDGE, "give the name of a bridge"
    return f"the kernel refuses it: {os.strerror(faults[0].code)}", ""


def _is_bridge(name: str) -> bool:
    return Path(_BRIDGE.format(name)).exists()
