"""A change of the host: what all kinds of them have in common (changes.py, sysctls.py)."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """One change of the host. Equal records are one change."""

    #: Undone in this order, the newest of one rank first. Kernel calls come before programs: a
    #: hanging resolver must not leave the rules that lead all packets into a dead tunnel.
    rank: ClassVar[int] = 0
    limit_s: ClassVar[float] = 2.0
    #: The kernel's state and /run are gone after a reboot; an edited file would not be.
    outlives_boot: ClassVar[bool] = False
    #: Several gateways may make the same change; the last one that ends undoes it.
    is_shared: ClassVar[bool] = False

    @property
    def what(self) -> str:
        """What it is, for "could not restore …"."""
        raise NotImplementedError

    @property
    def by_hand(self) -> str:
        """The command that undoes it by hand."""
        raise NotImplementedError

    @property
    def changes_nothing(self) -> bool:
        """Whether all was so before, so that there is nothing to undo."""
        return False

    def taking_over(self, known: Change) -> Change:
        """Return it with what was before another gateway had made the same change, ``known``."""
        return known

    def is_same(self, other: Change) -> bool:
        """Return whether both change the same thing."""
        return self == other

    def is_lost(self) -> bool:
        """Return whether another program has undone it, as far as nothing else reports that."""
        return False

    def original(self, setting: str) -> str | None:  # noqa: ARG002 (for those that change it)
        """Return what a setting was before this change of it, None if it is not of that one."""
        return None

    def undo(self, limit_s: float, *, owner_died: bool) -> None:
        """Undo it where it is still as we left it. Not on the event loop's thread.

        After the death of the gateway that made it, it may belong to another one by now. Raises
        RuntimeFailure or OSError.
        """
        raise NotImplementedError
