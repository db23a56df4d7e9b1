"""The names of endpoints: looked up for all of a gateway's links, cached, and waited for.

    endpoint --addresses()--> known and fresh --> its addresses
                                 | no: one lookup a name, in threads of our own
                                 |--> an answer: outer routes and rules are placed, then it is used
                                 |--> none, but an older answer: that one goes on being used
                                 `--> none at all: NotYetError, NoSuchNameError

A network that is late, or a captive portal, makes every name fail for a while: that is waited for,
with a warning at intervals. Only a name that stays nonexistent before there was any link is an
error of the configuration (`refuse_missing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from fastun import log
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.host.dns.resolved import HostAddress, NoSuchNameError, NotYetError, UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.threads import DaemonThreads

# An answer is used so long: one attempt of all that want the name, not the next one, which follows
# after a second when a path is doubted (timers.py).
FRESH_S: Final = 1.0

# After a failure. Several links may want a name at once, and each may try again at once.
RETRY_S: Final = 1.0

# How long a lookup is waited for: with an older answer at hand, and without one.
WAIT_KNOWN_S: Final = 0.5
WAIT_UNKNOWN_S: Final = 10.0

# A lookup may hang with DNS servers that the host no longer has, and glibc repeats a query after
# 5 s only. After this time that is said, and a second lookup starts beside it.
HANGS_AFTER_S: Final = 3.0
LOOKUPS_MAX: Final = 2  # of one name at once
N_THREADS: Final = 8

WARNING_INTERVAL_S: Final = 60.0

# Captive portals and routers that are starting say for a while that no name exists.
MISSING_LIMIT_S: Final = 30.0

_NO_ANSWER: Final = NotYetError("no answer from DNS")

Lookup = Callable[[str], tuple[HostAddress, ...]]
Hosts = set[IPv4Address | IPv6Address]


class _Name(msgspec.Struct):
    """What is known of one name. Times are the event loop's."""

    addresses: tuple[HostAddress, ...] = ()
    error: UnresolvedError | None = None
    due_s: float = float("-inf")  # when it is to be looked up again
    started_s: float = float("-inf")  # the last lookup
    ended_s: float = float("-inf")  # the last that has ended: when it had started
    lookups: set[asyncio.Task[None]] = msgspec.field(default_factory=set)
    wanted_s: float = 0.0  # the first lookup since the last answer
    missing_s: float | None = None  # since when it does not exist
    warned_s: float | None = None  # None: since its last answer, not at all


class Names:
    """All names that a gateway's links need. Event loop only."""

    def __init__(self, lookup: Lookup, place: Callable[[], Awaitable[None]]) -> None:
        """Look names up by ``lookup``, which may block.

        ``place`` is called whenever addresses have changed, before the new ones are used.
        """
        self._lookup = lookup
        self._place = place
        self._threads = DaemonThreads(N_THREADS)
        self._names: dict[str, _Name] = {}
        self._log = log.get("names")

    def close(self) -> None:
        """Wait for no lookup any more."""
        for name in self._names.values():
            for task in name.lookups:
                task.cancel()

    def hosts(self, but: Collection[str] = ()) -> Hosts:
        """Return all addresses that are known of names ``but`` these, without looking up any."""
        known = [name.addresses for host, name in self._names.items() if host not in but]
        return {address.host for addresses in known for address in addresses}

    def known(self, endpoint: Endpoint) -> tuple[EndpointAddress, ...]:
        """Return where the endpoint may be, as far as that is known now."""
        host, port = endpoint.host, endpoint.port
        with contextlib.suppress(NotYetError):
            if written := literal(host, port):
                return written
        name = self._names.get(host, _Name())
        return tuple(EndpointAddress(each, port, zone) for each, zone in name.addresses)

    async def addresses(self, endpoint: Endpoint) -> tuple[EndpointAddress, ...]:
        """Return where the endpoint may be, each address once, in the order of preference.

        Waits for DNS for some seconds at most. Raises NotYetError or NoSuchNameError, both OSError.
        """
        host, port = endpoint.host, endpoint.port
        try:
            written = literal(host, port)
        except NotYetError as error:
            name = self._names.setdefault(host, _Name(wanted_s=_now_s()))
            self._on_failure(host, name, error)
            raise
        if written:
            return written
        return tuple(EndpointAddress(each, port, zone) for each, zone in await self._known(host))

    def missing_for_s(self, host: str) -> float:
        """Return for how many seconds DNS has said each time that a name does not exist."""
        name = self._names.get(host)
        if name is None or name.missing_s is None:
            return 0.0
        return _now_s() - name.missing_s

    # -- looking up -----------------------------------------------------------------------------

    async def _known(self, host: str) -> tuple[HostAddress, ...]:
        name = self._names.setdefault(host, _Name())
        self._begin(host, name)
        if name.lookups:
            await self._wait(host, name)
        if name.addresses:
            return name.addresses
        error = name.error or _NO_ANSWER
        raise type(error)(error.why)  # a new one: each keeps where it was raised

    async def _wait(self, host: str, name: _Name) -> None:
        """Wait for the first lookup that ends; say that it hangs, and start one beside it."""
        until_s = _now_s() + (WAIT_KNOWN_S if name.addresses else WAIT_UNKNOWN_S)
        while (rest_s := until_s - _now_s()) > 0:
            timeout_s = min(rest_s, HANGS_AFTER_S)
            done, _ = await asyncio.wait(
                name.lookups, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done or name.addresses:
                return
            self._warn(host, name, _NO_ANSWER)
            self._begin(host, name)

    def _begin(self, host: str, name: _Name) -> None:
        now_s = _now_s()
        hangs = now_s - name.started_s >= HANGS_AFTER_S
        if now_s < name.due_s or (name.lookups and (not hangs or len(name.lookups) >= LOOKUPS_MAX)):
            return
        if name.warned_s is None and not name.lookups:
            name.wanted_s = now_s
        name.started_s = now_s
        task = asyncio.create_task(self._look_up(host, name))
        name.lookups.add(task)
        task.add_done_callback(name.lookups.discard)

    async def _look_up(self, host: str, name: _Name) -> None:
        loop, started_s = asyncio.get_running_loop(), name.started_s
        found: tuple[HostAddress, ...] = ()
        failure: UnresolvedError | None = None
        try:
            found = await loop.run_in_executor(self._threads, self._lookup, host)
        except UnresolvedError as error:
            failure = error
        if started_s < name.ended_s:  # a later one has been faster
            return
        name.ended_s = started_s
        if failure is not None:
            self._on_failure(host, name, failure)
        else:
            await self._on_answer(host, name, found)

    async def _on_answer(self, host: str, name: _Name, found: tuple[HostAddress, ...]) -> None:
        has_changed = set(found) != set(name.addresses)
        was_known = bool(name.addresses)
        name.addresses, name.error, name.missing_s = found, None, None
        if has_changed:
            await self._place()
        now_s = _now_s()
        name.due_s = now_s + FRESH_S
        said = " ".join(str(address.host) for address in found)
        if name.warned_s is not None:
            waited_s = round(now_s - name.wanted_s)
            self._log.info("name resolved", name=host, addresses=said, after_s=waited_s)
        elif has_changed and was_known:
            self._log.info("name has other addresses", name=host, addresses=said)
        else:
            self._log.debug("name resolved", name=host, addresses=said)
        name.warned_s = None

    def _on_failure(self, host: str, name: _Name, error: UnresolvedError) -> None:
        now_s = _now_s()
        name.error, name.due_s = error, now_s + RETRY_S
        if not isinstance(error, NoSuchNameError):
            name.missing_s = None
        elif name.missing_s is None:
            name.missing_s = now_s
        self._warn(host, name, error)

    def _warn(self, host: str, name: _Name, error: UnresolvedError) -> None:
        """Say what is waited for and since when, once a minute."""
        now_s = _now_s()
        if name.warned_s is not None and now_s - name.warned_s < WARNING_INTERVAL_S:
            return
        name.warned_s = now_s
        if name.addresses:
            event = "name cannot be resolved now; its last addresses are used"
        elif "%" in host:
            event = "interface of a link-local address is missing; waiting for it"
        elif isinstance(error, NoSuchNameError):
            event = "name does not exist; check its spelling. It is looked up again"
        else:
            event = "name cannot be resolved yet; waiting for DNS"
        waited_s = round(now_s - name.wanted_s)
        self._log.warning(event, name=host, error=error.why, waited_s=waited_s)


async def refuse_missing(
    names: Names, endpoints: tuple[Endpoint, ...], has_linked: Callable[[], bool]
) -> None:
    """Look up all ``endpoints`` until one is found or a link was made.

    Raises ConfigError when each has a name that does not exist for MISSING_LIMIT_S.
    """
    while not has_linked():
        found = await asyncio.gather(*map(names.addresses, endpoints), return_exceptions=True)
        if not all(isinstance(each, UnresolvedError) for each in found):
            return
        missing_s = min(names.missing_for_s(endpoint.host) for endpoint in endpoints)
        if missing_s >= MISSING_LIMIT_S:
            raise ConfigError(
                f"{endpoints[0]}: the host name does not exist (DNS said so for {missing_s:.0f} s);"
                " check its spelling and this host's DNS"
            )
        await asyncio.sleep(RETRY_S)


def literal(host: str, port: int) -> tuple[EndpointAddress, ...]:
    """Return an address that is written as one; nothing for a name. Raises NotYetError."""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    zone = address.scope_id if isinstance(address, IPv6Address) else None
    if not zone:
        return (EndpointAddress(address, port, 0),)
    try:
        index = socket.if_nametoindex(zone)
    except OSError:
        raise NotYetError(f"there is no interface {zone} yet") from None
    return (EndpointAddress(IPv6Address(host.partition("%")[0]), port, index),)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
