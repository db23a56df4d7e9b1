"""What status says of a client's endpoints: which is used, and why each other is not."""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastun.endpoint import Endpoint
from fastun.gateway import endpoint_view
from fastun.link.endpoint_health import EndpointHealth
from fastun.status import report
from fastun.status.reply import EndpointStatus
from tests.support.known_names import KnownNames

A, B, C = (IPv4Address(f"192.0.2.{n}") for n in (1, 2, 3))


def client(*endpoints: Endpoint, role: str = "connect") -> Any:
    link = SimpleNamespace(connection=None, remote=f"{A}:51820", transport="udp")
    return SimpleNamespace(
        settings=SimpleNamespace(role=role, endpoints=endpoints),
        links=SimpleNamespace(by_slot={0: link}),
        outside=SimpleNamespace(names=KnownNames().names(), health=EndpointHealth()),
    )


def udp(host: object) -> Endpoint:
    return Endpoint("udp", str(host), 51820)


def test_each_has_a_state_and_those_that_are_tried_last_say_until_when() -> None:
    owner = client(udp(A), udp(B), udp(C), udp("later.example.net"))
    owner.outside.health.failed(("udp", B, 51820))
    owner.outside.health.leave(C, 60)
    seen = endpoint_view.read(owner)
    assert [each.state for each in seen] == ["used", "silent", "drained", "unresolved"]
    lasts_s = [round(each.until - time.time()) if each.until else 0 for each in seen]
    assert lasts_s == [0, 5, 60, 0]
    said = report._endpoints(  # noqa: SLF001 (a line of the report)
        [
            EndpointStatus(
                endpoint=each.endpoint, address=each.address, state=each.state,
                until_unix_seconds=each.until,
            )
            for each in seen
        ],
        time.time(),
    ).plain  # fmt: skip
    lines = said.splitlines()
    assert lines[0] == f"udp://{A}:51820: used"
    assert lines[1].startswith(f"udp://{B}:51820: did not answer, tried last for ")
    assert "is drained, tried last for " in lines[2]
    assert lines[3] == "udp://later.example.net:51820: has no address yet"


def test_of_a_name_the_address_is_shown_as_well() -> None:
    named = EndpointStatus(
        endpoint="udp://gw1.example.net:51820", address=f"{A}:51820", state="used",
        until_unix_seconds=0,
    )  # fmt: skip
    said = report._endpoints([named], time.time()).plain  # noqa: SLF001 (as above)
    assert said == f"udp://gw1.example.net:51820 {A}:51820: used"


@pytest.mark.parametrize(("n", "role"), [(1, "connect"), (2, "serve")])
def test_one_endpoint_alone_is_not_listed_and_a_server_has_none(n: int, role: str) -> None:
    owner = client(*[udp(host) for host in (A, B)][:n], role=role)
    assert endpoint_view.read(cast("Any", owner)) == ()
