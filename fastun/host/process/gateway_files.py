"""What the gateway keeps in the state directory, which only the host process may write to."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Final, cast

from fastun.errors import RuntimeFailure
from fastun.host.process import supply_messages as messages
from fastun.host.process.client import ANSWER_LIMIT_S, Answer
from fastun.host.process.messages import Done
from fastun.host.process.supply_messages import (
    ChangesRead,
    FileRead,
    PeersRead,
    UsageRead,
    Version,
)
from fastun.peers import prefixes
from fastun.peers.terms import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastun.config.settings import ServeSettings
    from fastun.host.process.client import HostClient
    from fastun.host.process.messages import Message
    from fastun.host.served_peers import ServedPeers
    from fastun.peers.directory import Changes
    from fastun.peers.peer import Peer

# Thousands of peers take some 0.1 s to read.
_MANY_LIMIT_S: Final = 10.0


class GatewayFiles:
    """StateFiles."""

    def __init__(self, host: HostClient, directory: Path) -> None:
        """Ask that one."""
        self._host = host
        self._directory = directory

    def read(self, name: str, bytes_max: int) -> bytes:
        """As StateFiles."""
        request = messages.ReadFile(name=name, bytes_max=bytes_max)
        return self._host.call_soon(request, FileRead)[0].content

    def replace(self, name: str, content: bytes, *, is_durable: bool = False) -> None:
        """As StateFiles."""
        request = messages.ReplaceFile(name=name, content=content, is_durable=is_durable)
        self._host.call_soon(request, Done)

    def path(self, name: str) -> str:
        """As StateFiles."""
        return str(self._directory / name)


class GatewaySource:
    """Where the peer directory is: a PeersSource."""

    def __init__(self, host: HostClient) -> None:
        """Ask that one, which knows our key and where it is."""
        self._host = host

    def check_key(self, _: ServeSettings, public_key: bytes | None) -> None:
        """As PeersSource."""
        self._host.have(messages.CheckServerKey(public=public_key or b""))

    def open(self, settings: ServeSettings, _: bytes) -> ServedPeers:
        """As PeersSource."""
        return GatewayPeers(self._host, settings)


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
        return self._asked(messages.PeersVersion(), Version).version

    def changes_since(self, version: int) -> Changes | None:
        """As ServedPeers."""
        read = self._asked(messages.ReadChanges(since=version), ChangesRead, _MANY_LIMIT_S)
        if not read.changes:
            return None
        changes = cast("Changes", pickle.loads(read.changes))  # noqa: S301
        _slim(changes.peers)
        return changes

    def peers(self) -> tuple[Peer, ...]:
        """As ServedPeers."""
        read = self._asked(messages.ReadPeers(), PeersRead, _MANY_LIMIT_S)
        # From the process that has more rights to the one that has less.
        return _slim(cast("tuple[Peer, ...]", pickle.loads(read.peers)))  # noqa: S301

    def usage(self) -> dict[str, Usage]:
        """As ServedPeers."""
        read = self._asked(messages.ReadUsage(), UsageRead)
        return {name: Usage(*used) for name, used in read.usage.items()}

    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """As ServedPeers."""
        used = {name: (each.month, each.n_bytes) for name, each in usage.items()}
        self._asked(messages.RememberUsage(usage=used), Done)

    def close(self) -> None:
        """As ServedPeers."""
        self._host.tell(messages.ClosePeers())

    def _asked(
        self, request: Message, expected: type[Answer], limit_s: float = ANSWER_LIMIT_S
    ) -> Answer:
        try:
            return self._host.call_soon(request, expected, limit_s)[0]
        except OSError as error:
            raise RuntimeFailure(error.strerror or str(error)) from None


def _slim(peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    for peer in peers:
        for network in peer.allowed_ips:
            prefixes.slim(network)
    return peers
