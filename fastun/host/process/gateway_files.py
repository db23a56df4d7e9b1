"""What the gateway keeps in the state directory, which only the host process may write to."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, cast

from fastun.host.process import supply_messages as messages
from fastun.host.process.supply_messages import FileRead, PeersRead, UsageRead, Version
from fastun.peers.terms import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastun.config.settings import ServeSettings
    from fastun.host.process.client import HostClient
    from fastun.peers.peer import Peer


class GatewayFiles:
    """StateFiles."""

    def __init__(self, host: HostClient, directory: Path) -> None:
        """Ask that one."""
        self._host = host
        self._directory = directory

    def read(self, name: str, bytes_max: int) -> bytes:
        """As StateFiles."""
        request = messages.ReadFile(name=name, bytes_max=bytes_max)
        return self._host.call(request, FileRead).content

    def replace(self, name: str, content: bytes, *, is_durable: bool = False) -> None:
        """As StateFiles."""
        self._host.have(messages.ReplaceFile(name=name, content=content, is_durable=is_durable))

    def path(self, name: str) -> str:
        """As StateFiles."""
        return str(self._directory / name)


class GatewayPeers:
    """The peer directory: a ServedPeers."""

    def __init__(self, host: HostClient, settings: ServeSettings) -> None:
        """Open it, and announce the gateway. Raises FastunError."""
        self._host = host
        self.announce(settings)

    def announce(self, settings: ServeSettings) -> None:
        """As ServedPeers."""
        self._host.have(messages.OpenPeers(routes=tuple(map(str, settings.push.routes))))

    def version(self) -> int:
        """As ServedPeers."""
        return self._host.call(messages.PeersVersion(), Version).version

    def peers(self) -> tuple[Peer, ...]:
        """As ServedPeers."""
        read = self._host.call(messages.ReadPeers(), PeersRead)
        # From the process that has more rights to the one that has less.
        return cast("tuple[Peer, ...]", pickle.loads(read.peers))  # noqa: S301

    def usage(self) -> dict[str, Usage]:
        """As ServedPeers."""
        read = self._host.call(messages.ReadUsage(), UsageRead)
        return {name: Usage(*used) for name, used in read.usage.items()}

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """As ServedPeers."""
        used = {name: (each.month, each.n_bytes) for name, each in usage.items()}
        self._host.have(messages.RememberUsage(usage=used))

    def close(self) -> None:
        """As ServedPeers."""
        self._host.tell(messages.ClosePeers())
