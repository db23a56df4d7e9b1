"""The gateway's end of the host process: a call that waits for its answer, and what is noticed."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from fastun import ending, log
from fastun.ending import AskedToStop
from fastun.errors import ConfigError, RuntimeFailure
from fastun.host.process import messages
from fastun.host.process.channel import NOTICE, NUMBER_MAX, HostChannel, Unasked, close_all
from fastun.host.process.messages import Done, Failed, HostNow, Lost, Message
from fastun.host.process.reading import Reading
from fastun.host.users import KEPT, Users

if TYPE_CHECKING:
    from fastun.host.process.channel import Received

Answer = TypeVar("Answer", bound=Message)
Notice = TypeVar("Notice", bound=Message)

#: From the request to end on, whatever hangs: as long as the journal takes at most.
END_LIMIT_S: Final = 11.0
_DEATH_MS: Final = 500
_HANGS: Final = "the host process does not end; the next start undoes what is left"

#: Of what the event loop waits for. It takes less than a millisecond; on a loaded host, a hundred.
ANSWER_LIMIT_S: Final = 1.0


class HostClient:
    """The host process of one gateway. Any thread may ask; use as a context manager."""

    def __init__(
        self,
        end: socket.socket,
        pid: int,
        more: Sequence[type[Message]] = (),
        users: Users = KEPT,
    ) -> None:
        """Take over the socket. ``more`` are answers beside those of messages.py.

        ``users`` are those that gateway and workers are to be.
        """
        self.users = users
        kinds = messages.by_tag(*messages.ANSWERS, *messages.NOTICES, *more)
        self._channel = HostChannel(end, kinds)
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._waiting: dict[int, Future[Received]] = {}
        self._number = 0
        self._mutex = threading.Lock()
        self._is_closed = False
        self._end_by_s = 0.0  # 0: nothing has begun to end it
        self._failure: RuntimeFailure | None = None  # why nothing can be asked any more
        self.fault = ""  # why it does nothing at the moment (watch.py)
        self.now: HostNow | None = None  # how the host is; None before the device is made
        self._on_change: Callable[[HostNow], None] = lambda _: None
        self._on_loss: Callable[[RuntimeFailure], None] = lambda _: None
        self._on_notice: dict[type[Message], Callable[[Any], None]] = {}
        self._begun: Future[Received] | None = None
        self._late: Future[Received] | None = None  # which `call_soon` does not wait for any more
        self.reading = Reading(self.call)
        self._log = log.get("host")
        self._receiver = threading.Thread(target=self._receive_all, name="host", daemon=True)
        self._receiver.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._pid

    def __enter__(self) -> HostClient:  # noqa: D105, PYI034
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and wait until it has restored the host."""
        self.close()

    # -- asking ---------------------------------------------------------------------------------

    def call(self, request: Message, expected: type[Answer]) -> Answer:
        """Have it done, and return the answer, which has no descriptors.

        Blocks: not on the event loop's thread. Raises what the host process does: FastunError,
        OSError; and RuntimeFailure where it is gone.
        """
        answer, descriptors = self.call_for_descriptors(request, expected)
        close_all(descriptors)
        return answer

    def call_for_descriptors(
        self, request: Message, expected: type[Answer]
    ) -> tuple[Answer, list[int]]:
        """As `call`; the descriptors are the caller's to close."""
        return self._answered(self._ask(request), expected)

    def call_soon(
        self, request: Message, expected: type[Answer], limit_s: float = ANSWER_LIMIT_S
    ) -> tuple[Answer, list[int]]:
        """As `call_for_descriptors`, for what takes milliseconds; the event loop may wait for it.

        TimeoutError: there is no answer within ``limit_s``. Until it comes, the next call fails at
        once: a host process that is stopped must not stop the gateway with it.
        """
        if self.fault or (self._late is not None and not self._late.done()):
            raise _no_answer()
        waiting = self._ask(request)
        wait([waiting], limit_s)
        if not waiting.done():
            self._late = waiting
            waiting.add_done_callback(_close_late)
            raise _no_answer()
        return self._answered(waiting, expected)

    def have(self, request: Message) -> None:
        """Have it done, as `call`; there is nothing to return."""
        self.call(request, Done)

    def tell(self, request: Message) -> Future[object]:
        """Ask without waiting, on the event loop too; it is done when what is returned is."""
        return cast("Future[object]", self._ask(request))

    def begin(self, request: Message) -> None:
        """Ask for the device, and go on; `begun` waits. Once; another one changes nothing."""
        if self._begun is None:
            self._begun = self._ask(request)

    def begun(self, expected: type[Answer]) -> tuple[Answer, list[int]]:
        """Return the answer to `begin`, as `call_for_descriptors`."""
        assert self._begun is not None  # noqa: S101 (the caller's order)
        return self._answered(self._begun, expected)

    def _ask(self, request: Message) -> Future[Received]:
        answered: Future[Received] = Future()
        with self._mutex:
            if self._failure is not None:
                answered.set_exception(self._failure)
                return answered
            self._number = self._number % NUMBER_MAX + 1
            self._waiting[self._number] = answered
            try:
                self._channel.send(self._number, request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # `_receive_all` is about to see it, and why
            except (OSError, RuntimeFailure) as error:
                del self._waiting[self._number]
                answered.set_exception(error)
        return answered

    @staticmethod
    def _answered(waiting: Future[Received], expected: type[Answer]) -> tuple[Answer, list[int]]:
        _, answer, descriptors, _ = waiting.result()
        if isinstance(answer, Failed):
            close_all(descriptors)
            raise _error_of(answer)
        if not isinstance(answer, expected):
            close_all(descriptors)
            raise RuntimeFailure(f"the host process has answered by {type(answer).__name__}")
        return answer, descriptors

    # -- following ------------------------------------------------------------------------------

    def follow(
        self, on_change: Callable[[HostNow], None], on_loss: Callable[[RuntimeFailure], None]
    ) -> None:
        """Call ``on_change`` with how the host is, now and at each change, from any thread.

        ``on_loss`` once, where the device or the host process is gone.
        """
        with self._mutex:
            self._on_change, self._on_loss = on_change, on_loss
            failure, now = self._failure, self.now
        if now is not None:
            on_change(now)
        if failure is not None:
            on_loss(failure)

    def on_notice(self, kind: type[Notice], function: Callable[[Notice], None]) -> None:
        """Call ``function`` with each notice of a kind, on a thread of our own."""
        with self._mutex:
            self._on_notice[kind] = function

    def _receive_all(self) -> None:
        failure = None
        with contextlib.suppress(OSError):
            try:
                while (received := self._channel.receive()) is not None:
                    self._take(received)
            except Unasked as error:
                failure = RuntimeFailure(f"host process: {error}")
        failure = failure or self._lost()
        with self._mutex:
            self._failure = failure
            waiting = list(self._waiting.values())
            self._waiting.clear()
            is_closed, on_loss = self._is_closed, self._on_loss
        for each in waiting:
            each.set_exception(failure)
        if not is_closed:
            on_loss(failure)

    def _take(self, received: Received) -> None:
        if received.number != NOTICE:
            with self._mutex:
                waiting = self._waiting.pop(received.number, None)
            if waiting is None:
                close_all(received.descriptors)
            else:
                waiting.set_result(received)
            return
        close_all(received.descriptors)
        if isinstance(received.message, HostNow):
            with self._mutex:
                self.now, on_change = received.message, self._on_change
            on_change(received.message)
        elif isinstance(received.message, Lost):
            self._on_loss(RuntimeFailure(received.message.text))
        elif (function := self._on_notice.get(type(received.message))) is not None:
            function(received.message)

    def _lost(self) -> RuntimeFailure:
        """Return what is said where it has ended, and we have not ended it."""
        how = ""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not self._is_closed:
            poll.poll(_DEATH_MS)  # its channel is closed a little before
        with contextlib.suppress(ChildProcessError):
            ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and ended.si_code != os.CLD_EXITED:
                how = f" by {_signal_name(ended.si_status)}"
        return RuntimeFailure(
            f"the host process has ended{how}: nothing of this host can be changed any more; start "
            "fastun again, which also undoes what is left"
        )

    # -- the end --------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Have it let the device go: the first step of restoring this host, and part of its time.

        Raises FastunError, OSError.
        """
        with ending.extended(END_LIMIT_S):  # the event loop has ended, and cannot be what hangs
            waiting = self._ask(messages.Close())
            if wait([waiting], self._left_s()).done:
                self._answered(waiting, Done)

    def end(self) -> None:
        """Have it undo the journal. Raises RuntimeFailure: what could not be undone."""
        try:
            received = self._ask(messages.End()).result(self._left_s())
        except TimeoutError:
            raise RuntimeFailure(_HANGS) from None
        if isinstance(received.message, Failed):
            raise _error_of(received.message)

    def close(self) -> None:
        """End it, and wait until it has restored the host; it logs what it could not."""
        with self._mutex:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        self._channel.shut()
        self._receiver.join()
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if poll.poll(self._left_s() * 1000):
            with contextlib.suppress(ChildProcessError):  # one that a debugger holds is left to it
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        else:
            self._log.error(_HANGS)
        os.close(self._pidfd)

    def _left_s(self) -> float:
        """Return how long the end may still take. It begins with the first call of this."""
        now_s = time.monotonic()
        self._end_by_s = self._end_by_s or now_s + END_LIMIT_S
        return max(0.0, self._end_by_s - now_s)


def _no_answer() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "the host process does not answer")


def _close_late(answered: Future[Received]) -> None:
    if answered.exception() is None:
        close_all(answered.result().descriptors)


def _error_of(failed: Failed) -> Exception:
    match failed.kind:
        case "asked to stop":
            return AskedToStop()
        case "configuration":
            return ConfigError(failed.text)
        case "system":
            return OSError(failed.errno, failed.text)
    return RuntimeFailure(failed.text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
