"""Dialling streams: how ``connect`` gets its link over TCP, again and again.

    all addresses (racing.py) --> handshake --> link --> its end --> a pause --> all addresses, ...
                                                  `--> silence --> all addresses --> another link
                                                  `--> asked to leave --> the others --> another

A link that is silent (silence.py), or to a gateway that is drained (leaving.py), is left only for
another that is there. One that has lasted is
dialled again at once, and so are the first that have not; then there are pauses, which grow until a
link has lasted: one that ends at once has not shown that the next will not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from errno import ECONNRESET, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM
from typing import Final

from fastun import log
from fastun.endpoint import Endpoint
from fastun.host.dns.resolved import UnresolvedError
from fastun.host.sockets.address import EndpointAddress
from fastun.lane.messages import CLOSED_BY_PEER
from fastun.link.attempts import Way, named
from fastun.link.endpoint_health import Key
from fastun.link.hello import HelloError
from fastun.link.names import RETRY_S
from fastun.link.outside import Outside
from fastun.link.stream import racing, silence, sockets
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.owner import StreamOwner
from fastun.link.stream.racing import Candidate, NotConnectedError
from fastun.link.table import WORKER_DIED, Link
from fastun.pace import PACE
from fastun.session.refusal import HandshakeError

# A link that lived so long was wanted by the server, and no other host displaces it all the time.
LASTING_LINK_S: Final = 10.0

# Links that end sooner may do so because workers of the server die, which needs no long pause. So
# many in a row are something else: then the pauses grow. The first few need none.
SHORT_LINKS_AT_ONCE: Final = 2
SHORT_LINKS_MAX: Final = 12
SHORT_LINK_PAUSE_S: Final = 0.4

# A host on which routes change all the time (containers) dials no more often than this.
CHANGE_PAUSE_S: Final = 1.0

# What this host itself refuses to do may be over in a moment, and waiting for longer spares no one.
_OF_THIS_HOST: Final = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM})
OF_THIS_HOST_PAUSE_S: Final = 0.4

# How often a link is looked at, and the pause after all other ways have failed as well.
LOOK_INTERVAL_S: Final = 0.5
LOOK_WITH_OTHERS_S: Final = 0.1  # where there are other servers to go to
OTHER_WAYS_PAUSE_S: Final = 2.0

# Links in a row that the server closed as soon, after which the likely cause is said.
CLOSED_SOON_MAX: Final = 5
WARNING_INTERVAL_S: Final = 60.0

_CLOSED_BY_SERVER: Final = (CLOSED_BY_PEER, os.strerror(ECONNRESET))


class Dialler:
    """Keeps a link to one server."""

    def __init__(
        self,
        endpoints: Callable[[], tuple[Endpoint, ...]],
        handshaker: Handshaker,
        owner: StreamOwner,
        outside: Outside,
        wanted: asyncio.Event,
        *,
        is_to_leave: Callable[[Link | None], bool] = lambda _: False,
    ) -> None:
        """Prepare to dial what ``endpoints`` gives at each time, while a link is ``wanted``.

        ``outside`` says how; an endpoint inside the tunnel is not dialled. ``is_to_leave`` says
        whether the gateway that a link leads to has asked to be left, for None the present link.
        """
        self._endpoints = endpoints
        self._handshaker = handshaker
        self._owner = owner
        self._outside = outside
        self._wanted = wanted
        self._is_to_leave = is_to_leave
        # Addresses that connect and then give no link; the others come first.
        self._failed: set[EndpointAddress] = set()
        self._said = ""  # of failed attempts, in the log
        self._is_ours = False  # why the last connection gave no link
        self._n_short = self._n_closed_soon = 0
        self._warned_s = float("-inf")
        self._log = log.get("link")

    async def run(self) -> None:
        """Dial, do the handshake, wait for the link's end, dial again."""
        failing, ending = sockets.backoff_delays_s(), sockets.backoff_delays_s()
        while True:
            await self._wanted.wait()
            try:
                tried, connection = await self._connect(is_elsewhere=self._is_to_leave(None))
            except NoOtherError:
                await asyncio.sleep(OTHER_WAYS_PAUSE_S)
                continue
            except UnresolvedError as error:  # the log has it (names.py); nothing was tried
                self._outside.attempts.unresolved(self._handshaker.dialled, error.why)
                await asyncio.sleep(RETRY_S)
                continue
            except NotConnectedError as error:
                self._failed.clear()
                self._say(error)
                is_ours = all(_is_of_this_host(why) for _, why in error.failures)
                await self._pause(_next_of(failing, is_ours=is_ours))
                continue
            link = await self._make_link(tried, connection)
            if link is None:
                await asyncio.sleep(_next_of(failing, is_ours=self._is_ours))
                continue
            failing = sockets.backoff_delays_s()  # the server can be reached
            if await self._has_lasted(link, tried):
                ending = sockets.backoff_delays_s()
            elif self._n_short <= SHORT_LINKS_MAX:
                await self._pause_after_short_link()
            else:
                await asyncio.sleep(next(ending))

    async def _connect(self, *, is_elsewhere: bool = False) -> tuple[Candidate, socket.socket]:
        """Connect to one of the endpoints; ``is_elsewhere``: not to a gateway that is left."""
        dialled, health = self._handshaker.dialled, self._outside.health
        found = await racing.candidates(self._endpoints(), self._outside.names)
        found = health.ordered(dialled.peer, found, tcp_key)
        others = [each for each in found if not health.is_left(each.address.host)]
        if is_elsewhere and not others:
            raise NoOtherError
        found = others or found
        fresh = [each for each in found if each.address not in self._failed]
        for each in fresh or found:
            self._outside.attempts.tried(dialled, _way(each))
        return await racing.first_connected(fresh or found, self._outside)

    async def _pause_after_short_link(self) -> None:
        if self._n_short > SHORT_LINKS_AT_ONCE:
            await asyncio.sleep(random.uniform(0.5, 1.0) * SHORT_LINK_PAUSE_S)  # noqa: S311 (spreads clients, guards nothing)

    async def _pause(self, longest_s: float) -> None:
        """Wait; no longer than a moment where the network of this host changes."""
        change = self._outside.inside.route_change
        change.clear()
        await asyncio.sleep(min(longest_s, CHANGE_PAUSE_S))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, longest_s - CHANGE_PAUSE_S)):
                await change.wait()

    async def _make_link(self, tried: Candidate, connection: socket.socket) -> Link | None:
        """Do the handshake. Its keys must not be kept, so the link alone is returned."""
        with contextlib.ExitStack() as unless_established:
            unless_established.callback(connection.close)
            try:
                established = await self._handshaker.connect(connection)
                link = self._owner.establish(established, connection, str(tried.endpoint))
            except HandshakeError as error:
                self._is_ours = False
                self._fail(tried, error, f"the handshake failed ({error})")
            except (HelloError, OSError) as error:
                self._is_ours = _is_of_this_host(error)
                self._fail(tried, error, str(error) or "no answer in time")
            else:
                unless_established.pop_all()
                self._failed.clear()
                self._outside.health.answered(tcp_key(tried))
                self._said = ""
                self._outside.attempts.succeeded(self._handshaker.dialled.slot, "tcp")
                return link
        self._failed.add(tried.address)
        self._outside.health.failed(tcp_key(tried))
        return None

    async def _has_lasted(self, link: Link, tried: Candidate) -> bool:
        """Wait for the link's end; return whether it was one to be dialled again without a pause.

        Also where UDP has taken over, or a worker of ours has died.
        """
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        while (other := await self._other_way(link)) is not None:
            (tried, link), since_s = other, loop.time()
        reason = link.end_reason
        has_lasted = loop.time() - since_s >= LASTING_LINK_S
        if has_lasted or not reason or reason.endswith(WORKER_DIED):
            self._n_short = self._n_closed_soon = 0
            return True
        self._n_short += 1
        if link.end_reason in _CLOSED_BY_SERVER:
            self._n_closed_soon += 1
            self._warn_of_closing(tried, loop.time())
        return False

    async def _other_way(self, link: Link) -> tuple[Candidate, Link] | None:
        """Return the link that replaces a silent one, or None when the link has ended."""
        while not link.ended.is_set():
            with contextlib.suppress(TimeoutError):
                every_s = LOOK_WITH_OTHERS_S if self._has_others() else LOOK_INTERVAL_S
                async with asyncio.timeout(PACE.left_s(every_s)):
                    await link.ended.wait()
            if not self._may_replace(link):
                continue
            self._note_silent(link)
            try:
                tried, connection = await self._connect(is_elsewhere=self._is_to_leave(link))
            except OSError as error:
                self._log.debug("no other way to the server", error=str(error))
                await asyncio.sleep(OTHER_WAYS_PAUSE_S)
                continue
            if not self._may_replace(link):  # it was only slow
                connection.close()
                continue
            made = await self._make_link(tried, connection)
            if made is not None:
                return tried, made
            await asyncio.sleep(OTHER_WAYS_PAUSE_S)
        return None

    def _note_silent(self, link: Link) -> None:
        """Have where a silent link leads tried last."""
        if link.connection is not None and self._is_silent(link):
            with contextlib.suppress(OSError, ValueError):  # it is ending
                host, port, _ = EndpointAddress.of_peer(link.connection)
                self._outside.health.failed(("tcp", host, port))

    def _is_silent(self, link: Link) -> bool:
        return link.connection is not None and silence.is_silent(
            link.connection, has_others=self._has_others()
        )

    def _may_replace(self, link: Link) -> bool:
        """Return whether another link may take its place; on an unsealed wire there is no room."""
        is_wanted = self._is_silent(link) or self._is_to_leave(link)
        return is_wanted and not link.ended.is_set() and self._owner.has_room()

    def _has_others(self) -> bool:
        return len(self._endpoints()) > 1

    # -- the log ------------------------------------------------------------------------------

    def _say(self, error: NotConnectedError) -> None:
        inside = error.inside()
        if inside:
            peer = self._handshaker.dialled.peer.name
            self._outside.inside.note(peer, str(inside[0].endpoint), is_inside=True)
        if len(inside) < len(error.failures):
            endpoints = " ".join(dict.fromkeys(str(tried.endpoint) for tried, _ in error.failures))
            self._warn(endpoints, str(error))
        for tried, why in error.failures:
            self._outside.attempts.failed(self._handshaker.dialled, _way(tried), why)

    def _fail(self, tried: Candidate, error: Exception, reason: str) -> None:
        dialled = self._handshaker.dialled
        self._outside.attempts.failed(dialled, _way(tried), error, is_connected=True)
        self._warn(str(tried.endpoint), f"{tried}: {reason}")

    def _warn(self, endpoint: str, reason: str) -> None:
        """Say why there is no link, once until that changes: attempts.py says it again in time."""
        log_line = self._log.debug if reason == self._said else self._log.warning
        self._said = reason
        log_line("no link", endpoint=endpoint, error=reason)

    def _warn_of_closing(self, tried: Candidate, now_s: float) -> None:
        """Say what may be the cause when the server closes one link after another."""
        is_due = now_s - self._warned_s >= WARNING_INTERVAL_S
        if self._n_closed_soon < CLOSED_SOON_MAX or not is_due:
            return
        self._warned_s = now_s
        self._log.warning(
            "the server closes each link soon after it is made, as it does when the same peer "
            "connects from elsewhere; is this host's private key used on another host too?",
            endpoint=str(tried.endpoint),
            n_links=self._n_closed_soon,
        )


class NoOtherError(OSError):
    """All gateways have asked to be left."""


def tcp_key(tried: Candidate) -> Key:
    """Return by what the health of an address is known."""
    return "tcp", tried.address.host, tried.address.port


def _is_of_this_host(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _OF_THIS_HOST


def _next_of(delays: Iterator[float], *, is_ours: bool) -> float:
    """Return the next pause; of what this host refuses it does not grow."""
    return OF_THIS_HOST_PAUSE_S if is_ours else next(delays)


def _way(tried: Candidate) -> Way:
    host, port, _ = tried.address
    return Way("tcp", host, port, named(host, tried.endpoint.host))
