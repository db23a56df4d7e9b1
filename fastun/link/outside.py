"""How our own packets get out of this host: past the tunnel, to what names resolve to.

And what comes of it (attempts.py, endpoint_health.py).
"""

from __future__ import annotations

import msgspec

from fastun.host.process.gateway_kill_switch import GatewayKillSwitch
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.link.attempts import Attempts
from fastun.link.endpoint_health import EndpointHealth
from fastun.link.inside import Inside
from fastun.link.names import Names


class Outside(msgspec.Struct, frozen=True):
    """Names, what is inside the tunnel instead, and what makes our sockets.

    ``kill_switch`` drops what has no mark; None where nothing is dropped.
    """

    names: Names
    inside: Inside
    sockets: SocketMaker = OWN
    attempts: Attempts = msgspec.field(default_factory=Attempts)
    health: EndpointHealth = msgspec.field(default_factory=EndpointHealth)
    kill_switch: GatewayKillSwitch | None = None
