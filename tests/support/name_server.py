"""A DNS server in a namespace of the laboratory, whose answers a test changes while it runs."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host

NETNS_FILES = Path("/etc/netns")  # ip-netns(8): what `ip netns exec` has in place of /etc


class NameServer:
    """Answers on UDP port 53 of a host's address. Use as a context manager.

    ``hosts`` has addresses by name; other names do not exist. While ``is_silent``, nothing is
    answered; while ``fails``, all is SERVFAIL.
    """

    def __init__(self, host: Host, address: str, hosts: dict[str, list[str]]) -> None:
        self.hosts = hosts
        self.is_silent = False
        self.fails = False
        self.asked_by: list[str] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = host.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self._socket.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            self.asked_by.append(client[0])
            if not self.is_silent:
                answer = self._answer(dns.message.from_wire(query)).to_wire()
                with contextlib.suppress(OSError):  # no route back
                    self._socket.sendto(answer, client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        (question,) = query.question
        addresses = self.hosts.get(question.name.to_text(omit_final_dot=True).lower())
        if self.fails:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif addresses is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            is_ipv6 = question.rdtype == dns.rdatatype.AAAA
            records = [each for each in addresses if (":" in each) == is_ipv6]
            if records and question.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                answer.answer.append(
                    dns.rrset.from_text(question.name, 1, "IN", question.rdtype, *records)
                )
        return answer


@contextlib.contextmanager
def resolv_conf(host: Host, *servers: str) -> Iterator[Path]:
    """Give what runs in the host this /etc/resolv.conf; yields the file, which may be rewritten."""
    directory = NETNS_FILES / host.namespace
    directory.mkdir(parents=True)
    file = directory / "resolv.conf"
    file.write_text("".join(f"nameserver {server}\n" for server in servers))
    try:
        yield file
    finally:
        file.unlink()
        directory.rmdir()
