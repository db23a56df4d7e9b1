"""What the device itself gets for its life: queue, super-packets, no automatic address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.host.link_state import UNCHANGED, LinkState
from fastun.host.netlink.iproute import IPRoute
from fastun.host.netlink.kernel import GEN_MODE_NONE, Kernel

if TYPE_CHECKING:
    from fastun.config.settings import Settings

# The longest super-packet that the kernel may build for this device, in bytes: with every header of
# ours it still fits the stream's u16 length.
GSO_MAX_BYTES = 65000

# Frames that the kernel holds for the tun-reader. What comes while it waits for a processor must
# fit: at 120,000 small packets a second, on a machine with more to do than processors, some 30 ms.
# With the kernel's own 500, 50,000 a second lost several percent there, and none with this. It is
# no standing queue: behind a slow link the tun-reader drops by age (csrc/outbound/frame.c).
QUEUE_FRAMES = 4096


def configure(index: int, settings: Settings) -> None:
    """Set it. Raises NetlinkError or OSError."""
    with IPRoute() as netlink:
        netlink.link("set", index=index, gso_max_size=GSO_MAX_BYTES, txqlen=QUEUE_FRAMES)
    if _has_no_automatic_address(settings):
        with Kernel(index) as kernel:
            kernel.set_automatic_address(GEN_MODE_NONE)


def _has_no_automatic_address(settings: Settings) -> bool:
    """Return it for IPv6. A TAP is a network of its own, where hosts find each other by it."""
    has_own = any(address.ip.is_link_local for address in settings.addresses)
    return settings.mode == "tun" or has_own


def of_settings(settings: Settings) -> LinkState:
    """Return what the device itself gets."""
    return LinkState(
        is_up=True,
        mtu=settings.mtu,
        queue_frames=QUEUE_FRAMES,
        gso_max_bytes=GSO_MAX_BYTES,
        gen_mode=GEN_MODE_NONE if _has_no_automatic_address(settings) else UNCHANGED,
    )
