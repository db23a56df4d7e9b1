"""What a gateway sends to its host process."""

from __future__ import annotations

import array
import contextlib
import dataclasses
import os
import socket
from ipaddress import ip_network

from fastun import codec
from fastun.config.settings import Options, Settings, load
from fastun.host.process import checks, hooks, messages
from fastun.host.process.channel import HostChannel, Unasked, close_all
from fastun.host.process.checks import Checks
from fastun.host.routing.other_networks import is_inside
from fastun.peers.peer import Peer
from tests.fuzz.target import Source, fields, target

WORDS = (
    codec.TAG,
    *(kind.__name__ for kind in messages.REQUESTS),
    *sorted({name for kind in messages.REQUESTS for name in kind.__struct_fields__}),
    *("10.9.0.2/24", "10.7.0.0/16", "0.0.0.0/0", "fd09::1", "tcp", "udp", "peer_up"),
    *messages.FIELDS,
)
ALLOWED = ip_network("10.0.0.0/8")


def _client() -> Settings:
    plain = load("connect", "tcp://203.0.113.1", Options(wire="plain", insecure=True))
    server = Peer(name="server", public_key=bytes(32), allowed_ips=(ALLOWED,))
    accept = ("addresses", "routes", "mtu", "dns")
    return dataclasses.replace(plain, peers=(server,), accept=accept)  # type: ignore[arg-type]


_CHECKS = Checks(_client())


@target
def request_in_a_channel(data: bytes) -> None:
    """One request of a known kind, and no push that the settings do not allow; or the end."""
    source = Source(data)
    is_in_memory = source.byte() % 4 == 0
    packed = codec.pack(fields(source, WORDS)) if source.byte() % 4 else source.rest()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, contextlib.suppress(Unasked):
        _send(theirs, packed, is_in_memory=is_in_memory)
        theirs.close()
        received = HostChannel(ours, messages.by_tag(*messages.REQUESTS)).receive()
        if received is None:
            return
        close_all(received.descriptors)
        request = received.message
        assert isinstance(request, messages.REQUESTS)
        if isinstance(request, messages.Push):
            addresses, routes = _CHECKS.push(request)
            networks = (*(each.network for each in addresses), *routes)
            assert all(is_inside(each, ALLOWED) for each in networks)
            assert not request.takes_all
        elif isinstance(request, messages.SetDns):
            _CHECKS.dns(request)
        elif isinstance(request, messages.FollowEndpoints):
            assert all(each.protocol == "tcp" for each in _CHECKS.endpoints(request.endpoints))
        elif isinstance(request, messages.SaveEndpoints):
            taken = [*filter(hooks._is_address_and_port, request.endpoints.values())]
            assert all(each.isprintable() and " " not in each for each in taken)
        elif isinstance(request, messages.KeepOut):
            assert len([*map(checks.outer, request.outer)]) == len(request.outer)


def _send(end: socket.socket, packed: bytes, *, is_in_memory: bool) -> None:
    number = (1).to_bytes(4, "little")
    if not is_in_memory:
        end.send((number + packed)[: 64 << 10])
        return
    file = os.memfd_create("message")
    os.write(file, packed)
    rights = array.array("i", [file])
    end.sendmsg([number], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(file)
