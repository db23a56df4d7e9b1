"""The hooks of peers: in order for each, never two at a time for one, and few at a time in all.

    link comes or goes --> the peer's turn: what waits (two at most) --> run, one after another

A link that replaces another does not count. Of a peer that comes and goes while its hook runs, what
cancels itself out is left out: after `peer_up` always comes `peer_down`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from fastun import ending, log
from fastun.hooks.gateway import GRACE_S, GatewayHooks
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from fastun.link.table import Link, LinkTable

# Each is a process or more; a flood of peers must not become a flood of those.
AT_ONCE: Final = 8


class PeerHooks:
    """Follows the links of a gateway. Event loop only."""

    def __init__(self, hooks: GatewayHooks) -> None:
        """Run those of ``hooks``."""
        self._hooks = hooks
        self._links: dict[bytes, Link] = {}  # by the peer's key
        self._up: set[bytes] = set()  # peers that will be up when all that waits has run
        self._waiting: dict[bytes, list[tuple[str, Link]]] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._log = log.get("hooks")

    @contextlib.asynccontextmanager
    async def following(self, links: LinkTable) -> AsyncIterator[None]:
        """Follow ``links``; at the end what waits is run, as far as the time suffices."""
        links.follow(self.on_change)
        try:
            yield
        finally:
            limit_s = self._hooks.settings.hooks.timeout_s
            with ending.extended(limit_s + GRACE_S):
                await self._finish(limit_s)

    def on_change(self, link: Link, is_there: bool) -> None:
        """Note that a link has come or gone. It is looked at when it has been replaced, if it is.

        That is in the same turn of the event loop.
        """
        key = link.slotted.peer.public_key
        self._hooks.note_endpoint(link, format_key(key))
        if is_there:
            self._links[key] = link
        elif self._links.get(key) is link:
            del self._links[key]
        else:
            return
        asyncio.get_running_loop().call_soon(self._settle, key, link)

    def _settle(self, key: bytes, last: Link) -> None:
        link = self._links.get(key)
        if (link is not None) == (key in self._up):
            return
        event = "peer_down" if link is None else "peer_up"
        (self._up.discard if link is None else self._up.add)(key)
        if not (self._hooks.settings.hooks.peer_up or self._hooks.settings.hooks.peer_down):
            return
        waiting = self._waiting.setdefault(key, [])
        if len(waiting) > 1:  # the last of them and this one cancel each other out
            waiting.pop()
            return
        waiting.append((event, link or last))
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._take_turns(key))

    async def _take_turns(self, key: bytes) -> None:
        try:
            while waiting := self._waiting[key]:
                async with self._turns:
                    await self._run(*waiting.pop(0))
        finally:
            del self._tasks[key], self._waiting[key]

    async def _run(self, event: str, link: Link) -> None:
        hooks = self._hooks
        for command in hooks.settings.hooks.of(event):
            limit_s = hooks.settings.hooks.timeout_s + GRACE_S
            job = await asyncio.to_thread(hooks.begin, event, command, link)
            try:
                error = await asyncio.wait_for(asyncio.wrap_future(job.done), limit_s)
            except TimeoutError:
                error = hooks.runner.give_up(job)
            except asyncio.CancelledError:
                hooks.runner.cancel(job)
                raise
            hooks.note(job, command, error)

    async def _finish(self, limit_s: float) -> None:
        await asyncio.sleep(0)  # what was to be settled
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
            self._log.warning(
                "hooks of peers did not end in time at the stop, and were left out",
                peers=len(late),
            )
