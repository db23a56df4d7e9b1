"""A lane: one device queue, its two rings, its statistics and its four workers.

The lane spawns the workers, hands them what they need, watches them and replaces whichever dies.
Rings and statistics outlive a worker, so its successor goes on where it stood. What a worker has to
know of links and peers is its owner's to say: after ``on_start`` for a fresh one, and by ``send``.

All methods run on the event loop's thread; statistics and rings may be read from any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

from fastun import log
from fastun.errors import RuntimeFailure
from fastun.lane import channel
from fastun.lane.channel import Boot, Channel, ClampMss, Ready, ToGateway, ToWorker
from fastun.native import DIRECTIONS, ROLES, Mode, Offload, PeerTable, Ring, Stats, Wire

# One MiB holds some fifteen of the longest frames: enough that neither side waits for the other's
# wake-up, small enough to stay in a core's own cache. With 2 MiB a TCP link measured 10 % slower
# going out, with 4 MiB more; 512 KiB gained nothing further.
RING_BYTES = 1024 * 1024

# A worker that so often in a row could not be spawned, or died before it said Ready, will not do
# better the next time.
BOOT_FAILURES_MAX = 5

# One that says Ready and then dies young so often in a row is replaced without haste: it would
# burn a core and fill the log.
SHORT_LIFE_S = 0.25
SHORT_LIVES_MAX = 5
RESPAWN_DELAY_S = 1.0

STOP_GRACE_S = 0.5
KILL_GRACE_S = 1.5  # for one that is blocked in the kernel when it is killed

# What cannot be sent for want of memory is tried again after so long.
SEND_RETRY_S = 0.1

# A worker acts on a message within milliseconds. One that has taken none of those that wait for so
# long does not work: it is killed and replaced. Its channel holds a thousand; a thousand peers with
# some rekeys each are a few thousand more, and twenty times that is some 100 MiB.
UNREAD_MAX_S = 10.0
UNSENT_MAX = 100_000

# Of one worker's messages, at most so many before others have their turn. Handshakes that come
# faster than they are worked off must come to stand in their own queue, whose length tells that,
# and not in the channel, where nobody sees them.
MESSAGES_A_TURN = 64


class Worker:
    """One worker process as the gateway sees it."""

    def __init__(self, role: str, lane: int) -> None:
        """Describe the worker ``role`` of ``lane``; :meth:`Lane.start` spawns it."""
        self.role = role
        self.name = f"{role}/{lane}"
        self.restarts = 0
        self.boot_failures = 0
        self.n_short_lives = 0
        self.spawned = 0.0  # time.monotonic()
        self.is_ready = False
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.pidfd = -1
        self.respawn: asyncio.TimerHandle | None = None
        self.unsent: deque[tuple[ToWorker, int]] = deque()
        self.send_retry: asyncio.TimerHandle | None = None
        self.unread: asyncio.TimerHandle | None = None  # set while some wait
        self._cpu_seconds_of_predecessors = 0.0

    def cpu_seconds(self) -> float:
        """Return user and system time of this worker and all that it replaced. Any thread."""
        # First: were the process reaped in between, its time would be counted twice.
        predecessors, process = self._cpu_seconds_of_predecessors, self.process
        if process is None:
            return predecessors
        try:
            times = psutil.Process(process.pid).cpu_times()
        except psutil.Error:  # died this instant
            return predecessors
        return float(predecessors + times.user + times.system)

    def spawn(self) -> Channel:
        """Start a fresh interpreter that inherits one descriptor: its end of the channel.

        Returns our end. Raises OSError, and has left nothing behind then: no memory, no process or
        no descriptor is to be had.
        """
        ours, inherited = channel.pair()
        with inherited, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            arguments = [self.name, str(inherited.fileno()), str(os.getpid())]
            # -I: neither the environment nor the current directory has a say in what is imported.
            # -u: a line that does not fit a full stderr is lost at once, and does not block it.
            process = subprocess.Popen(
                [sys.executable, "-I", "-u", "-m", "fastun.lane.worker", *arguments],
                pass_fds=[inherited.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log.stderr_of_workers(),
                cwd=Path("/"),
                # A terminal's ^C, ^\ and hang-up are for the gateway, which stops its workers. A
                # group of its own is enough: in a session of its own the scheduler (autogroup)
                # weighs each worker like a whole login, and an idle ping took 9 to 14 % longer.
                process_group=0,
            )
            undo.callback(process.wait)  # the last is called first
            undo.callback(process.kill)
            self.pidfd = os.pidfd_open(process.pid)
            undo.pop_all()
        self.channel, self.process = ours, process
        self.spawned = time.monotonic()
        self.is_ready = False
        return ours

    def reap(self) -> int:
        """Collect the dead process; return its exit status (negative: a signal)."""
        assert self.process is not None  # noqa: S101 (the caller saw it die)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.process = None
        self._cpu_seconds_of_predecessors += usage.ru_utime + usage.ru_stime
        os.close(self.pidfd)
        self.pidfd = -1
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        while self.unsent:
            _close(self.unsent.popleft()[1])
        return os.waitstatus_to_exitcode(status)


class Lane:
    """Four workers, two rings, one statistics block and one table of peers."""

    def __init__(
        self,
        index: int,
        device_fd: int,
        wire: Wire,
        mode: Mode,
        *,
        holds: bool,
        coalesce: Offload = Offload.NONE,
        mss_mtu: int = 0,
        on_start: Callable[[Worker], None],
        on_message: Callable[[Worker, ToGateway], None],
        on_death: Callable[[Worker], None],
        on_failure: Callable[[RuntimeFailure], None],
    ) -> None:
        """Make rings and statistics; ``device_fd`` stays the caller's.

        TCP's segments are made to fit packets of ``mss_mtu`` bytes, 0 leaves them.
        ``holds``: packets wait a moment in the device's queue while slot 0 has no session.
        ``coalesce`` says which super-packets the device may be given of packets that came singly.
        """
        self.index = index
        self.stats = Stats.create()
        self.peers = PeerTable.create()
        self.rings = {"outbound": Ring.create(RING_BYTES), "inbound": Ring.create(RING_BYTES)}
        self.workers = {role: Worker(role, index) for role in ROLES}
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._device_fd = device_fd
        self._wire = wire
        self._mode = mode
        self._holds = holds
        self._coalesce = coalesce
        self._mss_mtu = mss_mtu
        self._on_start = on_start
        self._on_message = on_message
        self._on_death = on_death
        self._on_failure = on_failure
        self._log = log.get("lane")

    def start(self) -> None:
        """Spawn all workers and watch them on the running event loop."""
        for worker in self.workers.values():
            self._start_worker(worker)

    def is_whole(self) -> bool:
        """Return whether all four workers are at work. Any thread."""
        return all(worker.is_ready for worker in self.workers.values())

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        """Send a message and ring the doorbell. ``fd`` is duplicated, and may be closed after.

        Raises OSError when it cannot be duplicated.

        To a worker that is dead nothing is sent: its successor is told what it needs at its start.
        One that takes no messages is killed, after UNREAD_MAX_S or with UNSENT_MAX of them waiting.
        """
        worker = self.workers[role]
        if worker.channel is None or worker.process is None:
            return
        worker.unsent.append((message, os.dup(fd) if fd >= 0 else -1))
        if len(worker.unsent) == 1:
            self._flush(worker)
        elif len(worker.unsent) == UNSENT_MAX:
            self._kill(worker, f"{UNSENT_MAX:,} messages unsent")

    def clamp_mss(self, mtu: int) -> None:
        """Make TCP's segments fit packets of ``mtu`` bytes from now on; 0 leaves them."""
        self._mss_mtu = mtu
        for role in ("tun-reader", "link-reader"):
            self.send(role, ClampMss(mtu))

    async def stop(self) -> None:
        """Stop the workers: closing the channel ends them; those that stay are killed.

        Raises RuntimeFailure after all else when one cannot be killed: the device stays with it.
        """
        for worker in self.workers.values():
            if worker.respawn is not None:
                worker.respawn.cancel()
        living = [worker for worker in self.workers.values() if worker.process is not None]
        for worker in living:
            self._unwatch(worker)
            self._close_channel(worker)
            self._ring_of(worker).ring_doorbell(worker.role)
        gone = await asyncio.gather(*(self._reap_or_kill(worker) for worker in living))
        for ring in self.rings.values():
            ring.close()
        self.stats.close()
        self.peers.close()
        os.close(self._wake_fd)
        stuck = [worker.name for worker, is_gone in zip(living, gone, strict=True) if not is_gone]
        if stuck:
            raise RuntimeFailure(f"cannot kill the workers {', '.join(stuck)}")

    # -- one worker ---------------------------------------------------------------------------

    def _ring_of(self, worker: Worker) -> Ring:
        return self.rings[DIRECTIONS[worker.role]]

    def _start_worker(self, worker: Worker) -> None:
        """Spawn the worker and tell it all that it needs; try again later if that cannot be."""
        try:
            ours = worker.spawn()
        except OSError as error:
            self._log.warning("worker not started", worker=worker.name, error=error.strerror)
            if not self._gives_up(worker, error.strerror or str(error)):
                self._start_later(worker)
            return
        ring = self._ring_of(worker)
        boot = Boot(
            ring_bytes=ring.size_bytes,
            wire=self._wire,
            mode=self._mode,
            holds=self._holds,
            coalesce=self._coalesce,
            mss_mtu=self._mss_mtu,
        )
        fds = (self.stats.fd, ring.fd, self.peers.fd, self._device_fd, self._wake_fd)
        loop = asyncio.get_running_loop()
        loop.add_reader(worker.pidfd, self._replace, worker)
        loop.add_reader(ours.fileno(), self._receive, worker)
        try:
            ours.send(boot, fds)
            self._on_start(worker)
        except ConnectionError:  # dead already; the pidfd will say so
            pass
        except OSError as error:
            self._kill(worker, f"cannot send it commands: {error.strerror}")

    def _start_later(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.respawn = loop.call_later(RESPAWN_DELAY_S, self._start_after_all, worker)

    def _start_after_all(self, worker: Worker) -> None:
        """Start a worker that there was none of for a while.

        Nobody took the keys and links that were made meanwhile: they are as lost as a dead one's.
        """
        self._on_death(worker)
        self._start_worker(worker)

    def _gives_up(self, worker: Worker, why: str) -> bool:
        """Count a failure to start; whether it was the last, which ends the gateway."""
        worker.boot_failures += 1
        if worker.boot_failures < BOOT_FAILURES_MAX:
            return False
        self._on_failure(
            RuntimeFailure(
                f"worker {worker.name} failed to start {worker.boot_failures} times in a row "
                f"(last: {why}); the lines above say why"
            )
        )
        return True

    def _flush(self, worker: Worker) -> None:
        """Send what waits; the rest when the worker has read some, or there is memory again."""
        assert worker.channel is not None  # noqa: S101 (send looked)
        loop, fileno = asyncio.get_running_loop(), worker.channel.fileno()
        loop.remove_writer(fileno)
        n_waited = len(worker.unsent)
        try:
            while worker.unsent:
                message, fd = worker.unsent[0]
                worker.channel.send(message, () if fd < 0 else (fd,))
                worker.unsent.popleft()
                _close(fd)
        except BlockingIOError:
            loop.add_writer(fileno, self._flush, worker)
        except ConnectionError:  # it is dying; the pidfd will say so
            pass
        except OSError:
            worker.send_retry = loop.call_later(SEND_RETRY_S, self._flush, worker)
        if worker.unread is not None and len(worker.unsent) < n_waited:
            worker.unread.cancel()
            worker.unread = None
        if worker.unread is None and worker.unsent:
            worker.unread = loop.call_later(
                UNREAD_MAX_S, self._kill, worker, "control channel stalled"
            )
        self._ring_of(worker).ring_doorbell(worker.role)

    def _kill(self, worker: Worker, why: str) -> None:
        """End a worker that cannot do its work; the pidfd will say so, and it is replaced."""
        self._log.error("killing a worker", worker=worker.name, why=why)
        signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

    def _receive(self, worker: Worker) -> None:
        for _ in range(MESSAGES_A_TURN):
            if not self._receive_one(worker):
                return

    def _receive_one(self, worker: Worker) -> bool:
        """Act on one message; False when there is none."""
        assert worker.channel is not None  # noqa: S101 (it is being watched)
        try:
            received = worker.channel.receive()
        except BlockingIOError:
            return False
        except RuntimeFailure as error:
            self._log.error("bad control message", worker=worker.name, error=str(error))
            return True
        except OSError:  # it died with our messages unread
            received = None
        if received is None:
            # Its end is closed: it is dead or dying, and the pidfd will say so.
            asyncio.get_running_loop().remove_reader(worker.channel.fileno())
            return False
        message, fds = received
        channel.close_all(fds)
        if isinstance(message, Ready):
            worker.is_ready = True
            worker.boot_failures = 0
        elif isinstance(message, ToGateway):
            self._on_message(worker, message)
        return True

    def _replace(self, worker: Worker) -> None:
        self._unwatch(worker)
        was_ready = worker.is_ready
        status = worker.reap()
        worker.is_ready = False
        worker.restarts += 1
        self._log.warning("worker died, replacing it", worker=worker.name, status=status)
        if not was_ready and self._gives_up(worker, f"exit status {status}"):
            return
        self._on_death(worker)
        if time.monotonic() - worker.spawned > SHORT_LIFE_S:
            worker.n_short_lives = 0
        worker.n_short_lives += 1
        if worker.n_short_lives < SHORT_LIVES_MAX:
            self._start_worker(worker)
        else:
            self._start_later(worker)

    def _unwatch(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(worker.pidfd)
        if worker.channel is not None:
            loop.remove_reader(worker.channel.fileno())
            loop.remove_writer(worker.channel.fileno())
        for timer in (worker.send_retry, worker.unread):
            if timer is not None:
                timer.cancel()
        worker.send_retry = worker.unread = None

    def _close_channel(self, worker: Worker) -> None:
        if worker.channel is not None:
            worker.channel.close()
            worker.channel = None

    async def _reap_or_kill(self, worker: Worker) -> bool:
        """Return whether the worker is gone."""
        assert worker.process is not None  # noqa: S101 (stop collected the living)
        if not await _exited(worker.pidfd, STOP_GRACE_S):
            self._log.warning("worker does not stop, killing it", worker=worker.name)
            # Not Popen.kill: it would collect a worker that has just ended, and reap finds none.
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
            if not await _exited(worker.pidfd, KILL_GRACE_S):
                return False
        worker.reap()
        return True


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


async def _exited(pidfd: int, limit_s: float) -> bool:
    """Return whether the process behind ``pidfd`` has exited, as soon as it has."""
    loop, exited = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, exited.set)
    try:
        await asyncio.wait_for(exited.wait(), limit_s)
    except TimeoutError:
        return False
    else:
        return True
    finally:
        loop.remove_reader(pidfd)
