"""What is said of DNS servers, by real questions: they answer, they are silent, or not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.host.dns import check as dns_check
from fastun.host.dns import resolver
from fastun.host.dns.state import DnsState
from tests.support.name_server import NameServer

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER = "127.9.9.9"


@pytest.fixture
def asked(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Host, NameServer]:
    """A name server on a host whose programs ask another one, that is not there."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {SERVER}\n")
    monkeypatch.setattr(resolver, "_RESOLV_CONF", file)
    monkeypatch.setattr(dns_check, "_TIMEOUT_S", 0.3)
    host = lab.host("client")
    host.ip("link", "set", "lo", "up")
    return host, NameServer(host, SERVER, {"corp.example": ["203.0.113.1"]})


@pytest.mark.parametrize("domains", [(), ("~corp.example",), ("~absent.example", "a.example")])
def test_a_server_answers_whatever_it_answers(
    asked: tuple[Host, NameServer], monkeypatch: pytest.MonkeyPatch, domains: tuple[str, ...]
) -> None:
    host, server = asked

    def fault(*servers: str) -> str:
        state = DnsState(servers, domains, "file")
        return host.inside(lambda: dns_check.fault(state, "wg0"))

    with server:
        # This process asks the server that this machine has, which is not there.
        assert fault(SERVER) == f"this host's resolver gets no answer, though {SERVER} answers"
        monkeypatch.setattr(dns_check, "_host_is_answered", lambda _: True)
        assert fault(SERVER) == ""
        assert fault("127.0.0.2", SERVER) == ""
        server.fails = True
        assert fault(SERVER) == ""
        server.is_silent = True
        assert fault(SERVER) == f"{SERVER} does not answer"
        assert fault("127.0.0.2", SERVER) == f"127.0.0.2 {SERVER} do not answer"
