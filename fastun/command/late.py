"""The commands that have modules of their own, which are loaded when they are asked for.

A gateway stays in memory for days without those of `fastun peer` and the like.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Final

import click

_MODULES: Final = {
    "bench": "bench_cli",
    "capture": "capture_cli",
    "disconnect": "disconnect_cli",
    "drain": "drain_cli",
    "fleet": "fleet_cli",
    "grafana": "grafana_cli",
    "install-service": "service_cli",
    "key": "key_cli",
    "keygen": "key_cli",
    "peer": "peer_cli",
    "pubkey": "key_cli",
}


class LateCommands(MutableMapping[str, click.Command]):
    """All commands by name, as a group has them."""

    def __init__(self) -> None:
        """Begin with those of other modules."""
        self._found: dict[str, click.Command | None] = dict.fromkeys(_MODULES)

    def __getitem__(self, name: str) -> click.Command:
        """Return a command, loaded. KeyError."""
        found = self._found[name]
        if found is None:
            module = importlib.import_module(f"fastun.command.{_MODULES[name]}")
            found = self._found[name] = getattr(module, name.replace("-", "_"))
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        """Have one more."""
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        """Have one less. KeyError."""
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names, which loads nothing."""
        return iter(self._found)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)
