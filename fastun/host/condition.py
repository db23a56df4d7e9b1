"""The condition of a device: whether it is up, and how often it was repaired. Any thread reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import msgspec

from fastun.host.wanted import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.host.wanted import Change

#: What others can remove; the values of the metric's label, which have no spaces.
REPAIRED: Final[dict[Kind, str]] = {
    kind: kind.replace(" ", "_")
    for kind in get_args(Kind)
    if kind not in ("MTU", "link", "forwarding", "network")
}


class Condition(msgspec.Struct):
    """Of one device; changed by its monitor only (monitor.py)."""

    interface: str
    is_down: bool = False
    is_contested: bool = False  # another program removes what is made again
    missing: tuple[str, ...] = ()  # what was there and cannot be made again
    forwarding: tuple[str, ...] = ()  # what keeps this host from forwarding as it is to
    repairs: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(REPAIRED.values(), 0)
    )

    def count(self, made: Iterable[Change]) -> None:
        """Count what was made again."""
        for change in made:
            if change.kind in REPAIRED:
                self.repairs[REPAIRED[change.kind]] += 1

    def fault(self) -> str:
        """Return why traffic cannot pass, or takes another way; empty where all is well."""
        if self.is_down:
            return f"{self.interface} is down; run 'ip link set {self.interface} up'"
        if self.is_contested:
            return f"another program keeps removing what {self.interface} needs of this host"
        if self.missing and self.missing[0].startswith("bridge "):
            return f"{self.interface} is not a port of {self.missing[0]}; see the log"
        if self.missing:
            others = f" and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            return f"{self.missing[0]}{others} of {self.interface} cannot be made again"
        return self.forwarding[0] if self.forwarding else ""
