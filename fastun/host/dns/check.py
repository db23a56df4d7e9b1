"""Whether a tunnel's DNS servers answer, and whether this host gets what they answer.

    the servers         a question by DNS, past the host's resolver: one that is silent is named
    the host            a name that these servers are for, looked up as any program does

The question is one whose answer matters to no program: the name of the server's own address, or
with split DNS the first domain. That there is none is an answer, too.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

from fastun.errors import RuntimeFailure
from fastun.host.dns import resolver

if TYPE_CHECKING:
    from fastun.host.dns.state import DnsState

_TIMEOUT_S: Final = 2.0
_TRIES: Final = 2

# Python's names for netdb.h's codes: what the resolver says where no server has answered.
_TRY_AGAIN: Final = 2
_UNANSWERED: Final = (socket.EAI_AGAIN, socket.EAI_FAIL)


def fault(state: DnsState, interface: str) -> str:
    """Return why names are not looked up as they should be, empty where they are. May take 30 s."""
    with contextlib.suppress(RuntimeFailure):
        if wrong := resolver.what_is_wrong(state.manager, interface, state.servers):
            return wrong
    answering = [server for server in state.servers if _answers(server, state)]
    if not answering:
        verb = "does" if len(state.servers) == 1 else "do"
        return f"{' '.join(state.servers)} {verb} not answer"
    if _host_is_answered(state):
        return ""
    return f"this host's resolver gets no answer, though {answering[0]} answers"


def _answers(server: str, state: DnsState) -> bool:
    """Return whether a server answers, whatever it answers."""
    # dnspython, which a tunnel without DNS never needs.
    import dns.exception  # noqa: PLC0415
    import dns.message  # noqa: PLC0415
    import dns.query  # noqa: PLC0415
    import dns.reversename  # noqa: PLC0415

    if state.is_split:
        question = dns.message.make_query(state.split_domains[0], "A")
    else:
        address = server.partition("%")[0]
        question = dns.message.make_query(dns.reversename.from_address(address), "PTR")
    for _ in range(_TRIES):
        with contextlib.suppress(OSError, dns.exception.DNSException):
            dns.query.udp(question, server, timeout=_TIMEOUT_S)
            return True
    return False


def _host_is_answered(state: DnsState) -> bool:
    """Return whether this host's resolver is answered, whatever the answer."""
    try:
        if state.is_split:
            socket.getaddrinfo(state.split_domains[0], None, type=socket.SOCK_DGRAM)
        else:
            socket.gethostbyaddr(state.servers[0].partition("%")[0])
    except socket.gaierror as error:
        return error.errno not in _UNANSWERED
    except socket.herror as error:
        return error.errno != _TRY_AGAIN
    except (OSError, UnicodeError):
        return False
    return True
