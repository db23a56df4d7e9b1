"""What makes a gateway's links: by role, and by the transports of its endpoints."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from fastun.config.settings import Options, Role, load
from fastun.endpoint import Endpoint
from fastun.gateway.link_tasks import LinkOwner, link_tasks
from fastun.host.sockets.maker import OWN

if TYPE_CHECKING:
    from collections.abc import Iterable

TCP, UDP = Endpoint("tcp", "192.0.2.1", 1), Endpoint("udp", "192.0.2.1", 1)


async def _listening() -> None:
    """Bind nothing."""


async def _looking() -> None:
    """Look for no life."""


def owner(role: Role, endpoints: Iterable[Endpoint], begun: list[str]) -> LinkOwner:
    """A gateway with these endpoints, whose sessions on UDP only note that they begin."""
    target = "tcp://192.0.2.1" if role == "connect" else None
    settings = load(role, target, Options(wire="plain", insecure=True))
    fields: dict[str, Any] = {"listen" if role == "serve" else "endpoints": tuple(endpoints)}
    datagrams = SimpleNamespace(
        begin_all=lambda: begun.append("all"), silence=SimpleNamespace(run=_looking)
    )
    return cast(
        "LinkOwner",
        SimpleNamespace(
            settings=dataclasses.replace(settings, **fields),
            lanes=SimpleNamespace(udp=None, all=(None,)),
            links=None,
            outside=SimpleNamespace(names=None, inside=None, sockets=OWN),
            moves=SimpleNamespace(is_asked=lambda _=None: False),
            listening=SimpleNamespace(streams=None, run=_listening),
            handshaker=SimpleNamespace(opening_bytes=0),
            datagrams=datagrams if UDP in endpoints else None,
            counts=None,
        ),
    )


@pytest.mark.parametrize(
    ("role", "endpoints", "tasks", "begins"),
    [
        ("serve", (TCP,), ["refuse_missing", "_listening", "Acceptor.run"], False),
        ("serve", (UDP,), ["refuse_missing", "_listening", "_remember"], True),
        (
            "serve",
            (UDP, TCP),
            ["refuse_missing", "_listening", "_remember", "Acceptor.run"],
            True,
        ),
        ("connect", (TCP,), ["refuse_missing", "_listening", "Dialler.run"], False),
        ("connect", (UDP,), ["refuse_missing", "_listening", "_looking"], True),
        # The choice between the two begins the session on UDP.
        (
            "connect",
            (UDP, TCP),
            ["refuse_missing", "_listening", "_looking", "Preference.run", "Dialler.run"],
            False,
        ),
    ],
)
def test_each_role_has_the_tasks_that_its_endpoints_need(
    role: Role, endpoints: tuple[Endpoint, ...], tasks: list[str], begins: bool
) -> None:
    begun: list[str] = []
    made = link_tasks(owner(role, endpoints, begun))
    assert [each.__qualname__ for each in made] == tasks
    assert begun == ["all"] * begins
    for each in made:
        each.close()
