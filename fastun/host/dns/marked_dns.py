"""DNS by dnspython on sockets that carry our mark: queries that never go into our own tunnel."""

from __future__ import annotations

import contextlib
import io
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.nameserver
import dns.query
import dns.rdatatype
import dns.resolver

from fastun.host.dns.resolved import NoSuchNameError, NotYetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastun.host.netlink.rtnetlink import Address
    from fastun.host.sockets.maker import SocketMaker


# For one query, before the next server is asked: some may be of a network that the host has left.
_TIMEOUT_S = 1.5


class _MarkedServer(dns.nameserver.Do53Nameserver):
    """A DNS server that is asked by the mark."""

    def __init__(self, address: str, sockets: SocketMaker) -> None:
        super().__init__(address)
        self._sockets = sockets

    def query(  # noqa: PLR0917 (as the library has it)
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        del source, source_port
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        kind = socket.SOCK_STREAM if max_size else socket.SOCK_DGRAM
        with self._sockets.outgoing(family, kind) as marked:
            if max_size:
                marked.settimeout(timeout)
                marked.connect((self.address, self.port))
            marked.setblocking(False)
            if max_size:
                return dns.query.tcp(
                    request,
                    self.address,
                    timeout,
                    one_rr_per_rrset=one_rr_per_rrset,
                    ignore_trailing=ignore_trailing,
                    sock=marked,
                )
            return dns.query.udp(
                request,
                self.address,
                timeout,
                self.port,
                one_rr_per_rrset=one_rr_per_rrset,
                ignore_trailing=ignore_trailing,
                ignore_unexpected=True,
                ignore_errors=True,
                raise_on_truncation=True,
                sock=marked,
            )


def resolver(
    servers: Iterable[str], resolv_conf: str, sockets: SocketMaker
) -> dns.resolver.Resolver:
    """Return what asks ``servers``, with the search domains and options of ``resolv_conf``."""
    made = dns.resolver.Resolver(configure=False)
    with contextlib.suppress(dns.exception.DNSException, ValueError):
        made.read_resolv_conf(io.StringIO(resolv_conf))
    made.timeout = _TIMEOUT_S
    made.nameservers = [_MarkedServer(server, sockets) for server in servers]
    return made


def addresses(resolver: dns.resolver.Resolver, name: str, lifetime_s: float) -> list[Address]:
    """Return what a name has as AAAA and as A. Raises NotYetError or NoSuchNameError.

    One of the two is enough: some servers fail at AAAA alone.
    """
    found: list[Address] = []
    failure: NoSuchNameError | NotYetError | None = None
    for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
        try:
            answer = resolver.resolve(name, kind, lifetime=lifetime_s, search=True)
            found += [ip_address(record.address) for record in answer]
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            failure = failure or NoSuchNameError("DNS has no address of that name")
        except (dns.exception.DNSException, OSError) as error:
            failure = NotYetError(_one_line(error))
    if not found and failure is not None:
        raise failure
    return found


def _one_line(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer from DNS"
    return str(error) or type(error).__name__
