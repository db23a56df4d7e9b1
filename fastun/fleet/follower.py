"""Keeps this host's copy in step with the directory of its fleet.

    LISTEN --notification--> a look --rows--> the copy --Changed--> gateway
             or LOOK_S passed

A look reads what has changed since the last one (looks.py); every LOOK_S a part of all is compared
as well. While notifications come one after the other, looks are `APART_S` apart, and at least as
long as the last one took: a storm costs a look now and then, and half of a core at most. Without
the database it tries again, ever more rarely, and the copy is what it was.
"""

from __future__ import annotations

import contextlib
import random
import select
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import structs

from fastun import codec
from fastun.errors import FastunError
from fastun.fleet import messages, schema
from fastun.fleet.connection import explained
from fastun.fleet.looks import Looks
from fastun.fleet.messages import Changed, Claims, Ending, Now
from fastun.fleet.postgres import PostgresDirectory
from fastun.fleet.presence import Presence
from fastun.fleet.sound import named

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fastun.fleet.messages import Message
    from fastun.peers.peer import Server
    from fastun.peers.store import PeerStore

#: What a notification that was lost costs at most.
LOOK_S: Final = 10.0
APART_S: Final = 0.05
#: Between two tries to reach a database that is away: doubled each time, up to the second.
_AGAIN_S: Final = (0.5, 5.0)
#: How often a gateway says that it is there still.
_ANNOUNCE_S: Final = 60.0


class GatewayGone(Exception):  # noqa: N818 (the end, and no fault)
    """The channel is closed."""


class Follower:
    """That of one gateway. One thread."""

    def __init__(self, store: PeerStore, url: str, name: str, channel: socket.socket) -> None:
        """Follow the directory at ``url`` for the gateway ``name``."""
        self._store = store
        self._looks = Looks(store)
        self._url = url
        self._name = name
        self._channel = channel
        self._now = Now(n_peers=self._looks.copied.n_peers)
        self._part_due_s = 0.0
        self._server: Server | None = None  # what this gateway is
        self._announced: Server | None = None  # and what the directory says of it
        self._announced_s = 0.0
        self._again_s = _AGAIN_S[0]
        self._is_notified = False  # since the last look began
        self._presence = Presence(name)
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def run(self, is_to_end: Callable[[], bool] = lambda: False) -> None:
        """Follow until the gateway ends, or a connection is gone and ``is_to_end`` says so."""
        with contextlib.suppress(GatewayGone):
            while not is_to_end():
                try:
                    with PostgresDirectory(self._url, self._store) as directory:
                        self._begin(directory)
                        self._follow(directory)
                except FastunError as error:
                    n_failures = self._now.n_failures + 1
                    self._say(error=str(error)[:1024], n_failures=n_failures)
                self._wait(self._again_s * random.uniform(0.8, 1.2), None)  # noqa: S311 (no secret)
                self._again_s = min(self._again_s * 2, _AGAIN_S[1])
            self._send(Ending())

    def _begin(self, directory: PostgresDirectory) -> None:
        """Look at all: what was missed without a connection, nothing has notified."""
        self._server = self._store.server()
        if self._server is not None:
            directory.claim_key(self._server.public_key)
        with explained(self._url):
            directory.connection.add_notify_handler(self._on_notice)
            directory.connection.execute(f"LISTEN {schema.CHANNEL}")
        self._announced = None
        self._part_due_s = time.monotonic() + LOOK_S
        self._looks.begin(self._server)
        self._presence.begin()

    def _follow(self, directory: PostgresDirectory) -> None:
        """Raise FastunError when that is not possible any more, and GatewayGone.

        First what may be is read: a database that takes nothing more still says who was removed.
        """
        while True:
            began_s = time.monotonic()
            self._is_notified = False
            self._look(directory)
            self._announce(directory)
            if self._presence.has_news:
                self._presence.write(directory)
            for elsewhere in self._presence.read(directory):
                self._send(elsewhere)
            self._say(error="")
            self._again_s = _AGAIN_S[0]
            looked_s = time.monotonic()
            if not self._is_notified:  # else it came with an answer, and nothing is to be read
                left_s = self._part_due_s - time.monotonic()
                self._wait(left_s, directory.connection.fileno())
            apart_s = max(APART_S, looked_s - began_s)
            self._wait(apart_s - (time.monotonic() - looked_s), None)

    def _on_notice(self, _: object) -> None:
        self._is_notified = True

    def _look(self, directory: PostgresDirectory) -> None:
        server = self._store.server()
        if server != self._server:  # a reload has changed it
            self._server = server
            self._looks.begin(server)
        is_changed = self._looks.look(directory)
        if is_changed:
            self._send(Changed())
        if time.monotonic() >= self._part_due_s:
            self._part_due_s = time.monotonic() + LOOK_S
            if self._looks.look_at_part(directory):
                is_changed = True
                self._send(Changed())
        left_out = self._looks.copied.left_out
        self._say(
            looked=time.time(),
            n_peers=self._looks.copied.n_peers,
            n_looks=self._now.n_looks + 1,
            n_changes=self._now.n_changes + is_changed,
            left_out=len(left_out),
            why_left_out=tuple(
                f"{named(name)}: {why}"[:1024]
                for name, why in islice(left_out.items(), messages.NAMED_MAX)
            ),
        )

    def _announce(self, directory: PostgresDirectory) -> None:
        """Say what this gateway is, and that it is there."""
        is_due = time.monotonic() >= self._announced_s + _ANNOUNCE_S
        if self._server is not None and (is_due or self._server != self._announced):
            directory.announce(self._name, self._server)
            self._announced, self._announced_s = self._server, time.monotonic()

    # -- the gateway ----------------------------------------------------------------------------

    def _wait(self, left_s: float, beside: int | None) -> None:
        """Wait so long, or until the descriptor ``beside`` is readable; do what the gateway asks.

        Raises GatewayGone.
        """
        if beside is not None:
            self._poll.register(beside, select.POLLIN)
        try:
            until_s = time.monotonic() + left_s
            while (rest_s := until_s - time.monotonic()) > 0:
                ready = {number for number, _ in self._poll.poll(rest_s * 1000)}
                if self._channel.fileno() in ready:
                    self._take()
                    if beside is not None and self._presence.has_news:
                        return
                if beside in ready:
                    return
        finally:
            if beside is not None:
                self._poll.unregister(beside)

    def _take(self) -> None:
        """Do what the gateway asks. Raises GatewayGone."""
        try:
            message = messages.receive(self._channel, messages.OF_GATEWAY)
        except (codec.CodecError, OSError):
            raise GatewayGone from None
        if message is None:
            raise GatewayGone
        if isinstance(message, Claims):
            self._presence.claim(message)

    def _say(self, **changed: object) -> None:
        now = structs.replace(self._now, **changed)
        if now != self._now:
            self._now = now
            self._send(now)

    def _send(self, message: Message) -> None:
        try:
            messages.send(self._channel, message)
        except OSError:
            raise GatewayGone from None
