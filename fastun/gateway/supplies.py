"""What a gateway gets from its host process, because it may not make or open it itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fastun.host.process.gateway_files import GatewayFiles, GatewaySource
from fastun.host.process.gateway_sockets import GatewaySockets

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.process.client import HostClient
    from fastun.host.served_peers import PeersSource
    from fastun.host.sockets.maker import SocketMaker
    from fastun.state_file import StateFiles


class Supplies(NamedTuple):
    """Sockets, files of the state directory, and where the peers of one that serves are.

    ``start_fleet`` starts the process of its fleet.
    """

    sockets: SocketMaker
    files: StateFiles
    peers: PeersSource
    start_fleet: Callable[[], socket.socket]


def of(host: HostClient, settings: Settings) -> Supplies:
    """Return those of a gateway with these settings."""
    sockets = GatewaySockets(host)
    return Supplies(
        sockets,
        GatewayFiles(host, settings.state_dir),
        GatewaySource(host),
        sockets.fleet,
    )
