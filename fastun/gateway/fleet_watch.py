"""The gateway's end of the process that keeps its copy of a fleet's directory (fastun/fleet/).

The gateway serves from the copy whatever becomes of that process or of the database: what is
wrong is said once, in the log, and by status and metrics for as long as it lasts. A process that
has ended is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from fastun import codec, log
from fastun.errors import FastunError
from fastun.fleet import messages
from fastun.fleet.messages import Changed, Confined, Elsewhere, Ending, Now

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from fastun.config.fleet import Fleet
    from fastun.fleet.messages import Message

#: Between two starts of the process: doubled up to the second while it ends again.
_AGAIN_S: Final = (0.5, 30.0)
_LIVED_S: Final = 10.0
#: A look that is so old is late: the database takes long, or says nothing.
LATE_S: Final = 30.0
_ENDED: Final = "the process that follows it has ended; it is started again"
_LATE: Final = "it has not answered for {} s; it is waited for"


class FleetView(msgspec.Struct, frozen=True):
    """The directory of the fleet that a gateway belongs to, as its process follows it.

    ``fault`` says why changes of it do not reach this gateway, empty where they do. ``looked`` is
    when it was last read, Unix time, 0 for never. Peers that break a rule are ``left_out``.
    ``confined`` is what its process has given up, None before there was one.
    """

    directory: str
    name: str
    fault: str
    looked: float
    n_changes: int
    n_failures: int
    left_out: int
    why_left_out: tuple[str, ...]
    confined: Confined | None = None


class FleetWatch:
    """That of one gateway. Event loop only, but for `view`."""

    def __init__(self, fleet: Fleet, start: Callable[[], socket.socket]) -> None:
        """Have the process started by ``start``, which blocks."""
        self._fleet = fleet
        self._start = start
        self._now = Now()
        self._confined: Confined | None = None
        self._is_ending = False  # the process, as it has said
        self._channel: socket.socket | None = None
        self._on_start: Callable[[], None] = lambda: None
        self._on_places: Callable[[Elsewhere], None] = lambda _: None
        self._fault = ""  # why there is no process
        self._said = ""  # the fault that the log has last
        self._left_out: tuple[str, ...] = ()
        self._log = log.get("fleet")

    def view(self) -> FleetView:
        """Return how it is. Any thread."""
        now = self._now
        fault = self._fault or now.error
        late_s = time.time() - now.looked
        if not fault and now.looked and late_s > LATE_S:
            fault = _LATE.format(round(late_s))
        return FleetView(
            directory=self._fleet.directory,
            name=self._fleet.name,
            fault=fault,
            looked=now.looked,
            n_changes=now.n_changes,
            n_failures=now.n_failures,
            left_out=now.left_out,
            why_left_out=now.why_left_out,
            confined=self._confined,
        )

    def say(self, message: Message) -> bool:
        """Say something to the process; return False where that is not possible now."""
        if self._channel is None:
            return False
        try:
            messages.send(self._channel, message)
        except OSError:  # it reads late, or has ended
            return False
        return True

    def follow(self, on_start: Callable[[], None], on_places: Callable[[Elsewhere], None]) -> None:
        """Call ``on_start`` with each new process, ``on_places`` with what others have."""
        self._on_start, self._on_places = on_start, on_places

    async def run(self, look: Callable[[], Awaitable[None]]) -> None:
        """Keep the process running, for ever; ``look`` at the copy whenever it has changed."""
        again_s = _AGAIN_S[0]
        while True:
            began_s = time.monotonic()
            try:
                self._is_ending = False
                await self._serve(await asyncio.to_thread(self._start), look)
                self._fault = "" if self._is_ending else _ENDED
            except (FastunError, OSError) as error:
                self._fault = f"the process that follows it cannot be started: {error}"
            self._say()
            if time.monotonic() - began_s > _LIVED_S:
                again_s = _AGAIN_S[0]
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, _AGAIN_S[1])

    async def _serve(self, channel: socket.socket, look: Callable[[], Awaitable[None]]) -> None:
        """Take what the process says, until it ends."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        channel.setblocking(False)
        loop.add_reader(channel, ready.set)
        self._channel, self._fault = channel, ""
        self._on_start()
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LATE_S):
                        await ready.wait()
                self._say()
                ready.clear()
                try:
                    while (message := messages.receive(channel, messages.OF_PROCESS)) is not None:
                        if isinstance(message, Changed):
                            await look()
                        else:
                            self._take(message)
                except BlockingIOError:
                    continue
                return
        except codec.CodecError as error:
            self._log.warning("the fleet's process has sent what is not a message", why=str(error))
        except ConnectionError:
            return
        finally:
            self._channel = None
            loop.remove_reader(channel)
            channel.close()

    def _take(self, message: Message) -> None:
        if isinstance(message, Elsewhere):
            self._on_places(message)
        elif isinstance(message, Now):
            self._now = message
            self._say()
        elif isinstance(message, Confined):
            self._note_confined(message)
        elif isinstance(message, Ending):
            self._is_ending = True

    def _note_confined(self, confined: Confined) -> None:
        if confined.lacks and confined != self._confined:
            self._log.warning(
                "this kernel cannot fully confine the fleet's process",
                lacks=", ".join(confined.lacks),
            )
        self._confined = confined

    def _say(self) -> None:
        """Log what is new: once that it fails, and once that it does not any more."""
        fault = self.view().fault
        if bool(fault) != bool(self._said):
            if fault:
                self._log.warning(
                    "the fleet's directory cannot be followed; peers are those of the last time",
                    why=fault,
                    peers=self._now.n_peers,
                )
            else:
                self._log.info("the fleet's directory is followed again", peers=self._now.n_peers)
        self._said = fault
        if self._now.why_left_out != self._left_out:
            self._left_out = self._now.why_left_out
            for line in self._left_out:
                self._log.warning("a peer of the directory is left out", why=line)
