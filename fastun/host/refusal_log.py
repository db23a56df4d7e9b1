"""Warnings about what a device was refused: one an item, and each once while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastun import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.host.wanted import Kind, Refusal

# So many are read one by one; of thousands the number says more.
_SAID_MAX: Final = 8

_FIELDS: Final[dict[Kind, str]] = {"routing rules": "rules", "MTU": "mtu"}


_EVENTS: Final[dict[tuple[Kind, bool], str]] = {
    ("address", False): "address refused",
    ("address", True): "pushed address refused",
    ("route", False): "route refused",
    ("route", True): "pushed route refused",
    ("MTU", False): "MTU refused",
    ("MTU", True): "pushed MTU refused",
    ("routing rules", False): "routing rules refused",
    ("setting", False): "a setting of this host is in the way",
    ("link", False): "interface is down",
    ("network", False): "not kept beside the tunnel",
    ("bridge", False): "not a port of the bridge",
    ("forwarding", False): "forwarding refused",
}


class RefusalLog:
    """Of one device. One thread at a time."""

    def __init__(self, interface: str) -> None:
        """Begin with nothing refused."""
        self._interface = interface
        self._said: frozenset[Refusal] = frozenset()
        self._log = log.get("device")

    def say(self, refused: Sequence[Refusal]) -> None:
        """Warn about what was not refused the last time."""
        new = [each for each in refused if each not in self._said]
        self._said = frozenset(refused)
        for each in new[:_SAID_MAX]:
            reason = f"{each.reason}; {each.advice}" if each.advice else each.reason
            field = _FIELDS.get(each.kind, each.kind)
            event = _EVENTS[each.kind, each.is_pushed]
            self._log.warning(event, **{field: each.item}, reason=reason)
        if len(new) > _SAID_MAX:
            self._log.warning(
                "more was refused", interface=self._interface, others=len(new) - _SAID_MAX
            )
