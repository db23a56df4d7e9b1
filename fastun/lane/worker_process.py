"""One worker process as the gateway sees it: spawned, spoken to, watched, ended, collected.

When to start and replace one is the lane's decision. All methods run on the event loop's thread,
except where it says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.lane import channel
from fastun.lane.channel import Channel
from fastun.lane.cpu_clock import process_cpu_s
from fastun.lane.heartbeat import Heartbeat
from fastun.lane.messages import Message, ToWorker
from fastun.lane.predecessors import Predecessors
from fastun.lane.template import Template
from fastun.native import Confined, Ring

STOP_GRACE_S = 0.5
KILL_GRACE_S = 1.5  # for one that is blocked in the kernel when it is killed

# What cannot be sent or received for want of memory is tried again after so long.
RETRY_S = 0.1

# A worker acts on a message within milliseconds. One that has read none of those that wait for so
# long does not work: it is killed and replaced. Its channel holds a thousand; a thousand peers with
# some rekeys each are a few thousand more, and twenty times that is some 100 MiB.
UNREAD_MAX_S = 10.0
UNSENT_MAX = 100_000

# Of one worker's messages, at most so many before others have their turn. Handshakes that come
# faster than they are processed must wait in their own queue, whose length is a metric, and not
# unseen in the channel.
MESSAGES_A_TURN = 64


#: System calls have lower numbers, also in ten years: a metric has a label for each.
CALL_NUMBERS = 1024


class WorkerProcess:
    """One role's process, its predecessors' counts, and the messages that wait for it."""

    def __init__(self, role: str, lane: int, ring: Ring) -> None:
        """Describe the worker ``role`` of ``lane`` on its end of ``ring``; :meth:`spawn` it."""
        self.role = role
        self.lane = lane
        self.ring = ring
        self.restarts = 0
        self.boot_failures = 0
        self.n_short_lives = 0
        self.spawned = 0.0  # time.monotonic()
        self.silent_s = 0.0  # since it was last heard (watch.py)
        self.is_ready = False
        self.confined: Confined | None = None  # once it was ready, or a predecessor
        self.forbidden_calls: dict[str, int] = {}  # by number
        self.pid: int | None = None
        self.channel: Channel | None = None
        self.pidfd = -1
        self.respawn: asyncio.TimerHandle | None = None  # the lane's
        self.unsent: deque[tuple[ToWorker, int]] = deque()
        self.send_retry: asyncio.TimerHandle | None = None
        self.unread: asyncio.TimerHandle | None = None  # set while some wait
        self._predecessors = Predecessors()
        self._log = log.get("lane")

    @property
    def name(self) -> str:
        """Role and lane, as in its title."""
        return f"{self.role}/{self.lane}"

    def cpu_seconds(self) -> float:
        """Return user and system time of this worker and all that it replaced. Any thread."""
        # First: were the process reaped in between, its time would be counted twice.
        predecessors, pid = self._predecessors.cpu_seconds, self.pid
        if pid is None:
            return predecessors
        try:
            return predecessors + process_cpu_s(pid)
        except OSError:  # died this instant
            return predecessors

    def count_forbidden(self, call: int) -> None:
        """Count a system call that broke its filter; a number that no kernel has counts as "other".

        The number is what a worker left, perhaps in an attacker's hands.
        """
        name = str(call) if call < CALL_NUMBERS else "other"
        self.forbidden_calls[name] = self.forbidden_calls.get(name, 0) + 1

    # -- its beginning ------------------------------------------------------------------------

    def spawn(self, template: Template) -> Channel:
        """Have ``template`` fork a process that inherits one descriptor: its end of the channel.

        Returns our end. Raises OSError, and has left nothing behind then: no memory, no process or
        no descriptor is to be had.
        """
        ours, inherited = channel.of(template.sockets.channel())
        with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
            always.callback(channel.close_for_good, inherited)
            undo.callback(ours.close)
            pid = template.fork(self.name, inherited)
            undo.callback(os.waitpid, pid, 0)  # the last is called first
            undo.callback(os.kill, pid, signal.SIGKILL)
            self.pidfd = os.pidfd_open(pid)
            undo.pop_all()
        self.channel, self.pid = ours, pid
        self.spawned = time.monotonic()
        self.silent_s = 0.0
        self.is_ready = False
        return ours

    def discard(self) -> None:
        """Undo a spawn, if there was one: it cannot be watched."""
        if self.pid is not None:
            self.unwatch()
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.reap()

    def watch(
        self,
        on_message: Callable[[WorkerProcess, Message], None],
        on_exit: Callable[[WorkerProcess], None],
    ) -> None:
        """Call ``on_message`` for what the worker sends, and ``on_exit`` when it has ended.

        Raises OSError when the kernel has no room for that.
        """
        assert self.channel is not None  # noqa: S101 (it was spawned)
        loop = asyncio.get_running_loop()
        loop.add_reader(self.pidfd, on_exit, self)
        loop.add_reader(self.channel.fileno(), self._receive, on_message)

    def unwatch(self) -> None:
        """Forget descriptors and timers of a worker that has ended or is to."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        if self.channel is not None:
            loop.remove_reader(self.channel.fileno())
            loop.remove_writer(self.channel.fileno())
        for timer in (self.send_retry, self.unread):
            if timer is not None:
                timer.cancel()
        self.send_retry = self.unread = None

    # -- messages to it -----------------------------------------------------------------------

    def send(self, message: ToWorker, fd: int = -1) -> None:
        """Send a message and ring the doorbell: :meth:`fastun.lane.lane.Lane.send`."""
        if self.channel is None or self.pid is None:
            return
        self.unsent.append((message, os.dup(fd) if fd >= 0 else -1))
        if len(self.unsent) == 1:
            self._flush()
        elif len(self.unsent) == UNSENT_MAX:
            self.kill(f"{UNSENT_MAX:,} messages unsent")

    def _flush(self) -> None:
        """Send what waits; the rest when the worker has read some, or there is memory again."""
        assert self.channel is not None  # noqa: S101 (send looked)
        loop, fileno = asyncio.get_running_loop(), self.channel.fileno()
        loop.remove_writer(fileno)
        n_waited = len(self.unsent)
        try:
            while self.unsent:
                message, fd = self.unsent[0]
                self.channel.send(message, () if fd < 0 else (fd,))
                self.unsent.popleft()
                _close(fd)
        except BlockingIOError:
            try:
                loop.add_writer(fileno, self._flush)
            except OSError:  # no room to wait for it
                self.send_retry = loop.call_later(RETRY_S, self._flush)
        except ConnectionError:  # it is dying; the pidfd will say so
            pass
        except OSError:
            self.send_retry = loop.call_later(RETRY_S, self._flush)
        if self.unread is not None and len(self.unsent) < n_waited:
            self.unread.cancel()
            self.unread = None
        if self.unread is None and self.unsent:
            self.unread = loop.call_later(UNREAD_MAX_S, self.kill, "control channel stalled")
        self.ring.ring_doorbell(self.role)

    # -- messages from it ---------------------------------------------------------------------

    def _receive(self, on_message: Callable[[WorkerProcess, Message], None]) -> None:
        for _ in range(MESSAGES_A_TURN):
            if not self._receive_one(on_message):
                return

    def _receive_one(self, on_message: Callable[[WorkerProcess, Message], None]) -> bool:
        """Hand on one message; False when there is none."""
        assert self.channel is not None  # noqa: S101 (it is being watched)
        try:
            received = self.channel.receive()
        except BlockingIOError:
            return False
        except RuntimeFailure as error:
            self.kill(f"bad control message: {error}")
            return False
        except ConnectionError:  # it died with our messages unread
            received = None
        except OSError:
            self._receive_later(on_message)
            return False
        if received is None:
            # Its end is closed: it is dead or dying, and the pidfd will say so.
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            return False
        message, fds = received
        channel.close_all(fds)
        self.silent_s = 0.0
        if not isinstance(message, Heartbeat):
            on_message(self, message)
        return True

    def _receive_later(self, on_message: Callable[[WorkerProcess, Message], None]) -> None:
        """Read its messages again when there may be memory: it waits, and so does this process."""
        ours, loop = self.channel, asyncio.get_running_loop()
        assert ours is not None  # noqa: S101 (it is being watched)
        loop.remove_reader(ours.fileno())

        def again() -> None:
            if self.channel is ours:  # else it has ended
                loop.add_reader(ours.fileno(), self._receive, on_message)

        loop.call_later(RETRY_S, again)

    # -- its end ------------------------------------------------------------------------------

    def kill(self, why: str) -> None:
        """End a worker that cannot do its work; the pidfd will say so, and it is replaced."""
        self._log.error("killing a worker", worker=self.name, why=why)
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def let_go(self) -> None:
        """Close the channel, which ends a worker that works."""
        self.unwatch()
        self._close_channel()
        self.ring.ring_doorbell(self.role)

    async def ended(self) -> bool:
        """Wait for one that was let go, and kill it if it stays; return whether it is gone."""
        if not await _exited(self.pidfd, STOP_GRACE_S):
            self._log.warning("worker does not stop, killing it", worker=self.name)
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            if not await _exited(self.pidfd, KILL_GRACE_S):
                return False
        self.reap()
        return True

    def reap(self) -> int:
        """Collect the dead process; return its exit status (negative: a signal)."""
        assert self.pid is not None  # noqa: S101 (the caller saw it die)
        status = self._predecessors.collect(self.pid)
        self.pid = None
        channel.close_all([self.pidfd])
        self.pidfd = -1
        self._close_channel()
        while self.unsent:
            _close(self.unsent.popleft()[1])
        return status

    def _close_channel(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None


def _close(fd: int) -> None:
    channel.close_all([fd] if fd >= 0 else [])


async def _exited(pidfd: int, limit_s: float) -> bool:
    """Return whether the process behind ``pidfd`` has exited, as soon as it has."""
    loop, exited = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, exited.set)
    try:
        async with asyncio.timeout(limit_s):
            await exited.wait()
    except TimeoutError:  # both may have come while this process had no CPU
        return exited.is_set() or _has_exited(pidfd)
    else:
        return True
    finally:
        loop.remove_reader(pidfd)


def _has_exited(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
