"""What a name lookup gives: addresses, or why there are none, for now or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastun.host.netlink.rtnetlink import Address


class HostAddress(NamedTuple):
    """An address of a host, with the index of its interface where it is link-local, else 0."""

    host: Address
    zone: int = 0


class UnresolvedError(OSError):
    """A name has no address that we know. `strerror` says why."""

    def __init__(self, why: str) -> None:
        """Keep the reason where those who log an OSError look for it."""
        super().__init__(0, why)
        self.why = why


class NotYetError(UnresolvedError):
    """It may have one soon: DNS did not answer, or could not be asked."""


class NoSuchNameError(UnresolvedError):
    """DNS says that there is none. Captive portals say so, too."""
