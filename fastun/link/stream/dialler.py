"""Dialling streams: how ``connect`` gets its link over TCP, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from fastun import log
from fastun.endpoint import Endpoint
from fastun.host.resolved import UnresolvedError
from fastun.link.hello import HelloError
from fastun.link.inside import LeadsInsideError
from fastun.link.names import RETRY_S
from fastun.link.outside import Outside
from fastun.link.stream import sockets
from fastun.link.stream.handshake import Handshaker
from fastun.link.stream.owner import StreamOwner
from fastun.link.table import Link
from fastun.session.refusal import HandshakeError

# A simpletun link says nothing when it is refused; one that lived so long was not. It is longer
# than a serving fastun keeps a second client waiting. Where there is a hello, that is the proof.
STABLE_SIMPLETUN_LINK_S = 2.0


class Dialler:
    """Keeps a link to one server."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        handshaker: Handshaker,
        owner: StreamOwner,
        outside: Outside,
        wanted: asyncio.Event,
    ) -> None:
        """Prepare to dial ``endpoints`` in turn, each attempt the next, while it is ``wanted``.

        ``outside`` says how; an endpoint inside the tunnel is not dialled.
        """
        self._endpoints = itertools.cycle(endpoints)
        self._endpoint = endpoints[0]
        self._handshaker = handshaker
        self._owner = owner
        self._outside = outside
        self._wanted = wanted
        self._log = log.get("link")

    async def run(self) -> None:
        """Dial, do the handshake, wait for the link's end, dial again."""
        delays = sockets.backoff_delays_s()
        while True:
            await self._wanted.wait()
            self._endpoint = next(self._endpoints)
            try:
                if await self._carry_one_link():
                    delays = sockets.backoff_delays_s()
            except UnresolvedError:  # the log has it (names.py); a server was not even tried
                await asyncio.sleep(RETRY_S)
                continue
            except LeadsInsideError:
                self._outside.inside.note(
                    self._handshaker.dialled.peer.name, str(self._endpoint), is_inside=True
                )
            except HandshakeError as error:
                self._warn(f"the handshake failed ({error})")
            except (HelloError, OSError) as error:
                self._warn(str(error) or "no answer in time")
            await asyncio.sleep(next(delays))

    async def _carry_one_link(self) -> bool:
        """Return when a link has ended: whether it was one that the peer had taken."""
        loop = asyncio.get_running_loop()
        link, has_hello = await self._make_link()
        since = loop.time()
        await link.ended.wait()
        return has_hello or loop.time() - since > STABLE_SIMPLETUN_LINK_S

    async def _make_link(self) -> tuple[Link, bool]:
        """Return a new link, and whether the peer has said hello."""
        with contextlib.ExitStack() as unless_established:
            connection = await sockets.dial(self._endpoint, self._outside)
            unless_established.callback(connection.close)
            established = await self._handshaker.connect(connection)
            link = self._owner.establish(established, connection, str(self._endpoint))
            unless_established.pop_all()
        return link, established.hello is not None

    def _warn(self, reason: str) -> None:
        self._log.warning("no link", endpoint=str(self._endpoint), error=reason)
