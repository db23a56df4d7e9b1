"""What a gateway in an attacker's hands asks of the host process, which has this host's rights."""

from __future__ import annotations

import contextlib
import os
import socket
from ipaddress import ip_network
from typing import Any, Final

from fastun import codec
from fastun.config.settings import Options, load
from fastun.config.vocabulary import ACCEPTABLE
from fastun.host.process import checks, messages
from fastun.host.process.channel import HostChannel, Unasked, close_all
from fastun.host.process.checks import Checks
from fastun.host.process.messages import ANSWERS, NOTICES, Message
from fastun.host.process.work import HostWork
from fastun.host.routing.other_networks import is_inside
from tests.fuzz.target import Source, fields, target
from tests.support.pushed_device import settings

_ALLOWED: Final = ("10.0.0.0/8", "fd00::/8")
_CLIENT = Checks(
    settings(*_ALLOWED, accept=tuple(each for each in ACCEPTABLE if each != "default"))
)
_SERVER = Checks(load("serve", None, Options()))
_ASKED = (*HostWork(load("serve", None, Options()), None).handlers,)
_BY_TAG = messages.by_tag(*_ASKED)
WORDS = (
    codec.TAG,
    *_BY_TAG,
    *{name for kind in _ASKED for name in kind.__struct_fields__},
    *messages.FIELDS,
    *("10.1.0.0/16", "10.0.0.2/24", "fd00::/8", "::/1", "0.0.0.0/0", "127.0.0.1/8", "tcp", "udp"),
    *("10.0.0.53", "example.net", "~.", "fe80::1%lo", "x\nnameserver 192.0.2.1"),
)


def _received(data: bytes, by_tag: dict[str, Any]) -> Message | None:
    """Send it as a datagram, or in a memfd as what is long; return what comes of it."""
    source = Source(data)
    how = source.byte()
    content = codec.pack(fields(source, WORDS)) if how % 4 else source.rest()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, contextlib.ExitStack() as stack:
        if how & 4:
            memory = os.memfd_create("message")
            stack.callback(os.close, memory)
            os.write(memory, content)
            socket.send_fds(theirs, [b"\1\0\0\0"], [memory, 0] if how & 8 else [memory])
        else:
            theirs.send((b"\1\0\0\0" if how & 16 else b"") + content[:65536])
        theirs.shutdown(socket.SHUT_WR)
        received = HostChannel(ours, by_tag).receive()
        if received is None:
            return None
        close_all(received.descriptors)
        message: Message = received.message
        return message


def _check(asked: Message) -> None:
    """What may be asked for is within what the settings allow."""
    if isinstance(asked, messages.Push):
        addresses, routes = _CLIENT.push(asked)
        allowed = [*map(ip_network, _ALLOWED)]
        assert not asked.takes_all
        for network in (*(each.network for each in addresses), *routes):
            assert any(is_inside(network, each) for each in allowed)
    elif isinstance(asked, messages.SetDns):
        _CLIENT.dns(asked)
        assert not asked.servers or all("\n" not in each for each in asked.domains)
    elif isinstance(asked, messages.FollowEndpoints | messages.TurnKillSwitch):
        _CLIENT.endpoints(asked.endpoints)
    elif isinstance(asked, messages.RouteBehind):
        _SERVER.behind(asked.networks)
    elif isinstance(asked, messages.KeepOut):
        list(map(checks.outer, asked.outer))


@target
def host_request(data: bytes) -> None:
    """It is one that is known and may be asked for, or the conversation ends."""
    with contextlib.suppress(Unasked):
        asked = _received(data, _BY_TAG)
        if asked is not None:
            _check(asked)


@target
def host_answer(data: bytes) -> None:
    """An answer or a notice of the host process, or what ends the gateway with one line."""
    with contextlib.suppress(Unasked):
        _received(data, messages.by_tag(*ANSWERS, *NOTICES))
