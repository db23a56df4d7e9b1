"""Which address of a server is connected to: all are tried, none waits long for another (RFC 8305).

    endpoints --names--> addresses, the families in turn
        --> dialled, the next after 250 ms or as soon as one has failed
        --> the first that connects is used, the others are closed

A name that is looked up for longer does not delay the others; its addresses are in the next round.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from fastun.endpoint import Endpoint, format_host_port
from fastun.host.dns.resolved import NotYetError, UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.link.inside import LeadsInsideError
from fastun.link.names import Names
from fastun.link.outside import Outside
from fastun.link.stream import sockets

NEXT_AFTER_S: Final = 0.25

# A name may have any number of addresses; a failed round is one line in the log.
_SAID_MAX: Final = 4


class Candidate(NamedTuple):
    """An address, and the endpoint that it is of."""

    endpoint: Endpoint
    address: EndpointAddress

    def __str__(self) -> str:
        """Return ``host:port``."""
        return format_host_port(str(self.address.host), self.address.port)


class NotConnectedError(OSError):
    """None of the addresses could be connected to; the text says why, for each."""

    def __init__(self, failures: list[tuple[Candidate, OSError]]) -> None:
        """Take what was tried, at least one."""
        said = [f"{tried}: {_why(error)}" for tried, error in failures[:_SAID_MAX]]
        if len(failures) > _SAID_MAX:
            said.append(f"{len(failures) - _SAID_MAX} more addresses failed")
        super().__init__("; ".join(said))
        self.failures = failures

    def inside(self) -> list[Candidate]:
        """Return those whose route leads into the tunnel."""
        return [tried for tried, error in self.failures if isinstance(error, LeadsInsideError)]


async def candidates(endpoints: Iterable[Endpoint], names: Names) -> list[Candidate]:
    """Return what can be dialled now, each address once, in the order of preference.

    Raises UnresolvedError when no endpoint has an address.
    """
    lookups = {endpoint: asyncio.create_task(_look_up(endpoint, names)) for endpoint in endpoints}
    try:
        errors = await _first_found(set(lookups.values()))
        done = [task for task in lookups.values() if task.done() and not task.exception()]
        found = [candidate for task in done for candidate in task.result()]
    finally:
        for task in lookups.values():
            task.cancel()
    if not found:
        raise errors[0] if errors else NotYetError("no answer from DNS")
    return _families_in_turn(list({each.address: each for each in reversed(found)}.values())[::-1])


async def _look_up(endpoint: Endpoint, names: Names) -> list[Candidate]:
    return [Candidate(endpoint, address) for address in await names.addresses(endpoint)]


async def _first_found(lookups: set[asyncio.Task[list[Candidate]]]) -> list[UnresolvedError]:
    """Wait until one has succeeded and the others had a moment, or all have failed."""
    errors: list[UnresolvedError] = []
    has_found = False
    while lookups:
        patience_s = NEXT_AFTER_S if has_found else None
        done, lookups = await asyncio.wait(
            lookups, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            break
        for task in done:
            error = task.exception()
            if isinstance(error, UnresolvedError):
                errors.append(error)
            elif error is not None:
                raise error
            else:
                has_found = True
    return errors


def _families_in_turn(found: list[Candidate]) -> list[Candidate]:
    """Interleave IPv6 and IPv4: where one does not work at all, the other is the second tried."""
    first = isinstance(found[0].address.host, IPv6Address)
    preferred = [each for each in found if isinstance(each.address.host, IPv6Address) == first]
    other = [each for each in found if isinstance(each.address.host, IPv6Address) != first]
    pairs = itertools.zip_longest(preferred, other)
    return [each for pair in pairs for each in pair if each is not None]


async def first_connected(
    found: Iterable[Candidate], outside: Outside
) -> tuple[Candidate, socket.socket]:
    """Return the first that connects, and its connection. Raises NotConnectedError."""
    waiting = list(found)
    dialling: dict[asyncio.Task[socket.socket], Candidate] = {}
    failures: list[tuple[Candidate, OSError]] = []
    try:
        while waiting or dialling:
            if waiting:
                tried = waiting.pop(0)
                dialling[asyncio.create_task(sockets.dial(tried.address, outside))] = tried
            done, _ = await asyncio.wait(
                dialling,
                timeout=NEXT_AFTER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                tried = dialling.pop(task)
                try:
                    return tried, task.result()
                except OSError as error:
                    failures.append((tried, error))
    finally:
        await _close(dialling)
    raise NotConnectedError(failures)


async def _close(dialling: Iterable[asyncio.Task[socket.socket]]) -> None:
    """Stop all, and close the connections that were made in the meantime."""
    for task in dialling:
        task.cancel()
    for result in await asyncio.gather(*dialling, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


def _why(error: OSError) -> str:
    if isinstance(error, LeadsInsideError):
        return str(error.strerror)
    return "no answer in time" if error.errno is None else os.strerror(error.errno)
