"""Which peers a server lets connect: what `fastun peer` has changed is there in a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import WAIT_LIMIT_S, wait_until
from fastun.lab.tunnel import add_peer
from fastun.status import control

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess, Transport


def wait_known(server: GatewayProcess, *names: str) -> None:
    path = control.socket_path(server.log_file.parent, server.interface)

    def are_known() -> bool:
        status = control.request(path, "status", timeout_s=WAIT_LIMIT_S)
        return {*names} <= {peer.name for peer in status.peers}

    wait_until(are_known, f"the server knows {' '.join(names)}")


def add_known_peer(
    server: GatewayProcess, name: str, outer_address: str, transport: Transport = "tcp"
) -> Path:
    """Add a client that may connect at once; return the file that `fastun connect` takes."""
    file = add_peer(server, name, outer_address, transport)
    wait_known(server, name)
    return file
