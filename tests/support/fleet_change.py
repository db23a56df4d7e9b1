"""How long it takes until a change of a fleet's directory is in effect: a handshake is answered."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from fastun.lab.tunnel import UDP_PORT
from fastun.session import keys, noise, tai64n

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet import FleetScene

RESPONSE = 2  # WireGuard's type of message
AGAIN_S = 0.02


def until_answered_s(fleet: FleetScene, number: int, add: Callable[[bytes], None]) -> float:
    """Return after how long a gateway answers a peer whose key is added now."""
    own = keys.pair_of(keys.generate_private())
    server = keys.public_of(keys.load_private(fleet.state(number) / "private.key"))
    with fleet.client.socket(kind=socket.SOCK_DGRAM) as client:
        client.connect((fleet.outer(number), UDP_PORT))
        client.settimeout(AGAIN_S)
        add(own.public)
        began_s = time.monotonic()
        while time.monotonic() < began_s + 10:
            then = tai64n.from_unix_ns(time.time_ns())
            client.send(noise.initiate(own, server, timestamp=then)[0])
            with contextlib.suppress(TimeoutError):
                if client.recv(2048)[0] == RESPONSE:
                    return time.monotonic() - began_s
    raise AssertionError("not answered")
