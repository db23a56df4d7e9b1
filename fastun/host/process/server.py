"""The host process's end of its channel: what is asked is checked, done in a thread, and answered.

    channel --one message--> its handler, in a thread --> how the host is now, if that has changed
                                                          the answer
    anything but a request, or one that may not be made --> one line, and the channel is closed

Few are handled at a time. A gateway that does not read its answers is waited for, and asks nothing
more meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from fastun import ending, log
from fastun.ending import AskedToStop
from fastun.errors import ConfigError, FastunError, one_line
from fastun.host.process import messages
from fastun.host.process.channel import (
    NOTICE,
    RETRY_S,
    HostChannel,
    Unasked,
    close_all,
    is_shortage,
)
from fastun.host.process.messages import Done, Failed, HostNow, Message

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

#: More than the gateway's threads can ask for at once (threads.py).
AT_ONCE_MAX: Final = 32
#: Of the requests that are handled at once, if it is more than one: what is made of a network takes
#: some 40 times its text. One alone may be longer, and an honest gateway asks for no two such.
BYTES_AT_ONCE_MAX: Final = 4 << 20

_SAID_CHARACTERS_MAX: Final = 200

#: How often what is being done is looked at, beside its own word.
LOOK_S: Final = 0.05
_TOO_MUCH: Final = (
    f"the host process has more than {BYTES_AT_ONCE_MAX >> 20} MiB of requests to do; "
    "ask again when some are done"
)


class Answered(NamedTuple):
    """An answer with descriptors, which are closed once they are sent."""

    message: Message
    descriptors: tuple[int, ...] = ()


#: Does what is asked, on a thread of its own; None is Done. Raises Unasked for what may not be.
Handler = Callable[[Message], "Answered | Message | None"]


class HostServer:
    """Serves one gateway. Event loop only."""

    def __init__(
        self,
        end: socket.socket,
        handlers: Mapping[type[Message], Callable[[Message], Answered | Message | None]],
        now: Callable[[], HostNow | None],
        beside: Callable[[], Iterable[Coroutine[None, None, None]]] = tuple,
    ) -> None:
        """Answer on ``end``. ``now`` returns how the host is, None before there is a device.

        ``beside`` returns, after each request, what is to run as well from now on; its FastunError
        goes to the gateway, to end with.
        """
        self._channel = HostChannel(end, messages.by_tag(*handlers))
        self._handlers = handlers
        self._now, self._beside = now, beside
        self._said: HostNow | None = None
        self._outgoing: deque[tuple[int, Message, tuple[int, ...]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_handled = self._n_bytes = 0  # of requests that are not answered yet
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._log = log.get("host")

    async def run(self, bell: int) -> None:
        """Serve until the channel ends. ``bell`` is an eventfd, readable when the end begins."""
        loop = asyncio.get_running_loop()
        loop.add_reader(bell, self._on_bell, bell)
        self._listen(is_on=True)
        try:
            await self._ended.wait()
        finally:
            ending.ask("the gateway has ended")
            loop.remove_reader(bell)
            self._listen(is_on=False)
            loop.remove_writer(self._channel.fileno())
            self._channel.close()

    def say_now(self) -> None:
        """Tell the gateway how the host is, if that has changed."""
        now = self._now()
        if now is not None and now != self._said:
            self._said = now
            self._send(NOTICE, now)

    def say_soon(self, notice: Message) -> None:
        """Tell the gateway something. Any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._send, NOTICE, notice)

    async def _run_beside(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except AskedToStop:
            return
        except FastunError as error:
            self._send(NOTICE, messages.Lost(text=str(error)))

    def _on_bell(self, bell: int) -> None:
        asyncio.get_running_loop().remove_reader(bell)
        ending.ask("the gateway ends")

    # -- in -------------------------------------------------------------------------------------

    def _listen(self, *, is_on: bool) -> None:
        loop = asyncio.get_running_loop()
        if is_on and not self._ended.is_set():
            loop.add_reader(self._channel.fileno(), self._read)
        else:
            loop.remove_reader(self._channel.fileno())

    def _read(self) -> None:
        try:
            received = self._channel.receive(socket.MSG_DONTWAIT)
            if received is not None:
                self._take(*received)
                return
        except BlockingIOError:
            return
        except Unasked as error:
            self._refuse(error)
        except OSError as error:
            if is_shortage(error):
                time.sleep(RETRY_S)  # its socket stays readable
                return
        self._end()  # it is gone

    def _take(self, number: int, request: Message, descriptors: list[int], n_bytes: int) -> None:
        if descriptors:
            close_all(descriptors)
            raise Unasked("descriptors")
        if number == NOTICE:
            raise Unasked("a request without a number")
        if self._n_handled and self._n_bytes + n_bytes > BYTES_AT_ONCE_MAX:
            self._send(number, Failed(kind="runtime", text=_TOO_MUCH))
            return
        self._n_handled += 1
        self._n_bytes += n_bytes
        self._limit()
        self._start(self._handle(number, request, n_bytes))

    async def _handle(self, number: int, request: Message, n_bytes: int) -> None:
        try:
            answer = await _in_thread(self._handlers[type(request)], request)
        except Unasked as error:
            self._refuse(error)
            self._end()
            return
        except (FastunError, OSError) as error:
            answer = failed(error)
        except Exception as error:  # noqa: BLE001 (the others go on, and the gateway says so)
            self._log.error("unexpected error", exc_info=error)
            text = f"unexpected error: {error!r}; please report it"
            answer = Failed(kind="runtime", text=one_line(text))
        self._n_handled -= 1
        self._n_bytes -= n_bytes
        self.say_now()  # before the answer: who has asked finds it done
        message, given = answer if isinstance(answer, Answered) else (answer or Done(), ())
        self._send(number, message, given)
        for work in self._beside():
            self._start(self._run_beside(work))

    def _refuse(self, why: Unasked) -> None:
        said = str(why)[:_SAID_CHARACTERS_MAX]
        self._log.error("the gateway has asked for what it may not: it is ended", asked=said)

    # -- out ------------------------------------------------------------------------------------

    def _send(self, number: int, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        if number == NOTICE and isinstance(message, HostNow):  # the newest is enough
            self._outgoing = deque(
                each for each in self._outgoing if not isinstance(each[1], HostNow)
            )
        self._outgoing.append((number, message, descriptors))
        self._write()

    def _write(self) -> None:
        if self._ended.is_set():
            return
        loop, end = asyncio.get_running_loop(), self._channel.fileno()
        try:
            while self._outgoing:
                number, message, descriptors = self._outgoing[0]
                self._channel.send(number, message, descriptors, socket.MSG_DONTWAIT)
                self._outgoing.popleft()
                for each in descriptors:
                    os.close(each)
            loop.remove_writer(end)
        except BlockingIOError:
            loop.add_writer(end, self._write)
        except OSError as error:
            if is_shortage(error):
                loop.call_later(RETRY_S, self._write)
            else:
                self._end()
        self._limit()

    # -- both -----------------------------------------------------------------------------------

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("unexpected error", exc_info=error)
            self._end()

    def _limit(self) -> None:
        """Read no further request while many are not answered."""
        self._listen(is_on=self._n_handled + len(self._outgoing) < AT_ONCE_MAX)

    def _end(self) -> None:
        self._ended.set()
        self._listen(is_on=False)


def failed(error: FastunError | OSError) -> Failed:
    """Return the answer that is an error."""
    if isinstance(error, AskedToStop):
        return Failed(kind="asked to stop", text=str(error))
    if isinstance(error, ConfigError):
        return Failed(kind="configuration", text=str(error))
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        return Failed(kind="system", text=one_line(text), errno=error.errno or 0)
    return Failed(kind="runtime", text=str(error))


async def _in_thread(
    handler: Callable[[Message], Answered | Message | None], request: Message
) -> Answered | Message | None:
    """As asyncio.to_thread; but where the loop cannot be woken for want of memory, it looks.

    Its wake-up is a byte in a socket, and asyncio goes on without a word where that is refused.
    """
    done = asyncio.ensure_future(asyncio.to_thread(handler, request))
    while not done.done():
        await asyncio.wait((done,), timeout=LOOK_S)
    return done.result()
