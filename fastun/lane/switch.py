"""What the switch of a TAP device with many peers shares: the addresses, and the hairpin.

The workers' side is in ``csrc/inbound/switch_in.h`` and ``csrc/outbound/hairpin.h``. Both outlive a
worker, so that its successor knows where every address is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from fastun.native import MacTable, Ring

# As the other rings: some fifteen of the longest frames.
HAIRPIN_BYTES = 1024 * 1024


class Switch:
    """Made by the lane, and given to its tun-reader and link-reader. Event loop only."""

    ROLES = ("tun-reader", "link-reader")

    def __init__(self) -> None:
        """Make all; no address is known yet."""
        self.macs = MacTable.create()
        self.hairpin = Ring.create(HAIRPIN_BYTES)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def descriptors(self) -> tuple[int, int, int]:
        """Return what a worker gets of it, in the order in which it expects them."""
        return (self.macs.fd, self.hairpin.fd, self._wake_fd)

    def set_own(self, addresses: Sequence[bytes]) -> None:
        """Have no peer take these addresses: they are this host's."""
        self.macs.set_own(addresses)

    def wake(self) -> None:
        """Have the tun-reader look: the link-reader may have died before it woke it."""
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Unmap and close, after the workers have ended."""
        self.macs.close()
        self.hairpin.close()
        os.close(self._wake_fd)


def attach_switch(fds: Sequence[int], hairpin_bytes: int) -> tuple[MacTable, Ring] | tuple[()]:
    """Map what a worker got of it, the first of `descriptors`; nothing where there is none."""
    return (MacTable.attach(fds[0]), Ring.attach(fds[1], hairpin_bytes)) if fds else ()
