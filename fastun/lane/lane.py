"""A lane: one device queue, its two rings, its statistics and its four workers.

The lane spawns the workers, hands them what they need, watches them and replaces whichever dies.
Rings and statistics outlive a worker, so its successor continues from there. What a worker needs to
know of links and peers is its owner's to send: in ``on_start`` to a fresh one, and by ``send``.

All methods run on the event loop's thread; statistics and rings may be read from any.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import structs

from fastun import log
from fastun.ending import AskedToStop
from fastun.errors import RuntimeFailure
from fastun.lane.boot import LanePlan, boot_of
from fastun.lane.capture import LaneCapture
from fastun.lane.crossing import Crossings
from fastun.lane.messages import Begin, ClampMss, Message, Ready, ToGateway, ToWorker
from fastun.lane.switch import Switch
from fastun.lane.template import FAULTS, Template
from fastun.lane.worker_process import WorkerProcess
from fastun.native import (
    DIRECTIONS,
    ROLES,
    Confined,
    KeyRegion,
    PeerTable,
    ReplayMarks,
    Ring,
    SendingCounters,
    Stats,
    Wire,
)

# One MiB holds some fifteen of the longest frames: enough that neither side waits for the other's
# wake-up, small enough to stay in a core's own cache. With 2 MiB a TCP link measured 10 % slower
# going out, with 4 MiB more; 512 KiB gained nothing further.
RING_BYTES = 1024 * 1024

# A worker that so often in a row could not be spawned, or died before it said Ready, will not do
# better the next time. Where one has worked before, memory or descriptors may be short, and that
# passes: a tunnel that has worked is given up after a minute.
BOOT_FAILURES_MAX = 5
LATER_FAILURES_MAX = 120

# One that says Ready and then dies young so often in a row is replaced without haste: it would
# burn a core and fill the log.
SHORT_LIFE_S = 0.25
SHORT_LIVES_MAX = 5
RESPAWN_DELAY_S = 0.5

TEMPLATE_LOOK_S = 0.005  # at one that is about to be ready

# A worker that crashes costs a fresh template, some 70 ms of CPU. Whoever can crash one gets so
# many at once; after that each waits.
FAULTS_MAX = 5
FAULTS_WINDOW_S = 10.0
FAULT_DELAY_S = 1.0


class LaneOwner(Protocol):
    """What a lane calls, on the event loop."""

    def on_start(self, worker: WorkerProcess) -> None:
        """Send a fresh worker what it needs to know of links and peers, before its first packet."""

    def on_message(self, worker: WorkerProcess, message: ToGateway) -> None:
        """Act on what a worker reports."""

    def on_death(self, worker: WorkerProcess) -> None:
        """Do without the state that a worker has lost, before its successor starts."""

    def on_failure(self, error: RuntimeFailure) -> None:
        """End: there is no lane without a worker that cannot be started."""


class Lane:
    """Four workers, two rings, one statistics block and one table of peers."""

    _owner: LaneOwner  # from start on, and there is no worker before

    def __init__(
        self, index: int, plan: LanePlan, template: Template, crossings: Crossings | None = None
    ) -> None:
        """Make rings and statistics; :meth:`start` has ``template`` make the workers.

        ``crossings`` are the caller's, which has more lanes than this one.
        """
        self.index = index
        self._template = template
        self.stats = Stats.create()
        self.peers = PeerTable.create()
        self.sending = SendingCounters.create()
        self.marks = ReplayMarks.create()
        self.rings = {"outbound": Ring.create(RING_BYTES), "inbound": Ring.create(RING_BYTES)}
        self.switch = Switch() if plan.switches else None
        self.crossings = crossings
        self.keys = KeyRegion.create(secret=plan.secret_keys and plan.wire == Wire.WIREGUARD)
        self.workers = {
            role: WorkerProcess(role, index, self.rings[DIRECTIONS[role]]) for role in ROLES
        }
        self.plan = plan
        self._capture: LaneCapture | None = None
        self._faults: deque[float] = deque(maxlen=FAULTS_MAX)  # when, of all workers
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self.wake_fds = {direction: os.eventfd(0, flags) for direction in self.rings}
        self._log = log.get("lane")

    def start(self, owner: LaneOwner) -> None:
        """Spawn all workers and watch them on the running event loop."""
        self._owner = owner
        for worker in self.workers.values():
            self._start_worker(worker)

    def is_whole(self) -> bool:
        """Return whether all four workers are at work. Any thread."""
        return all(worker.is_ready for worker in self.workers.values())

    def send(self, role: str, message: ToWorker, fd: int = -1) -> None:
        """Send a message and ring the doorbell. ``fd`` is duplicated: OSError.

        To a worker that is dead nothing is sent: its successor gets what it needs at its start. One
        that does not read its messages is killed (worker_process.py has the limits).
        """
        self.workers[role].send(message, fd)

    def keys_of(self, slot: int) -> KeyRegion:
        """Return where the keys of this slot's sessions are."""
        del slot
        return self.keys

    def pass_socket(self, role: str, message: ToWorker, fds: Sequence[int]) -> None:
        """Send a message with the first of these sockets."""
        self.send(role, message, fds[0])

    def new_index(self, slot: int) -> int | None:
        """Return None: any index will do for a session of this slot's peer."""
        del slot
        return None

    def clamp_mss(self, mtu: int) -> None:
        """Make TCP's segments fit packets of ``mtu`` bytes from now on; 0 leaves them."""
        self.plan = structs.replace(self.plan, mss_mtu=mtu)
        for role in ("tun-reader", "link-reader"):
            self.send(role, ClampMss(mtu))

    def capture(self, capture: LaneCapture | None) -> None:
        """Have all workers, and those to come, copy what it wants; None: no more.

        The one before is ended, and closed.
        """
        before, self._capture = self._capture, capture
        for worker in self.workers.values():
            if before is not None:
                before.end_in(worker)
            if capture is not None:
                capture.begin_in(worker)
        if before is not None:
            before.close()

    async def stop(self) -> None:
        """Stop the workers: closing the channel ends them; those that stay are killed.

        Raises RuntimeFailure after all else when one cannot be killed: the device stays with it.
        """
        for worker in self.workers.values():
            if worker.respawn is not None:
                worker.respawn.cancel()
        living = [worker for worker in self.workers.values() if worker.pid is not None]
        for worker in living:
            worker.let_go()
        gone = await asyncio.gather(*(worker.ended() for worker in living))
        self.capture(None)
        for ring in self.rings.values():
            ring.close()
        for memory in (self.stats, self.peers, self.keys, self.sending, self.marks):
            memory.close()
        if self.switch is not None:
            self.switch.close()
        for wake_fd in self.wake_fds.values():
            os.close(wake_fd)
        stuck = [worker.name for worker, is_gone in zip(living, gone, strict=True) if not is_gone]
        if stuck:
            raise RuntimeFailure(f"cannot kill the workers {', '.join(stuck)}")

    # -- starting a worker --------------------------------------------------------------------

    def _start_worker(self, worker: WorkerProcess) -> None:
        """Spawn the worker and send it all that it needs; try again later if that fails."""
        try:
            ours = worker.spawn(self._template)
            worker.watch(self._on_message, self._replace)
        except AskedToStop:
            return
        except OSError as error:
            worker.discard()
            self._log.warning("worker not started", worker=worker.name, error=error.strerror)
            if not self._gives_up(worker, error.strerror or str(error)):
                self._start_later(worker)
            return
        boot, fds = boot_of(self, worker.role)
        try:
            ours.send(boot, fds)
            self._owner.on_start(worker)
            if self._capture is not None:
                self._capture.begin_in(worker)
            worker.send(Begin())
        except ConnectionError:  # dead already; the pidfd will say so
            pass
        except OSError as error:
            worker.kill(f"cannot send it commands: {error.strerror}")

    def _start_later(self, worker: WorkerProcess, *, is_fault: bool = False) -> None:
        loop = asyncio.get_running_loop()
        delay_s = FAULT_DELAY_S if is_fault else RESPAWN_DELAY_S
        worker.respawn = loop.call_later(delay_s, self._start_after_all, worker)

    def _start_after_all(self, worker: WorkerProcess) -> None:
        """Start a worker that there was none of for a while.

        No worker got the keys and links that were made meanwhile: they are as lost as a dead one's.
        """
        self._owner.on_death(worker)
        self._start_worker(worker)

    def _start_when_ready(self, worker: WorkerProcess) -> None:
        """Start a worker as soon as the template is ready; no event waits for that."""
        if self._template.is_ready():
            self._start_after_all(worker)
            return
        loop = asyncio.get_running_loop()
        worker.respawn = loop.call_later(TEMPLATE_LOOK_S, self._start_when_ready, worker)

    def _gives_up(self, worker: WorkerProcess, why: str) -> bool:
        """Count a failure to start; whether it was the last, which ends the gateway."""
        worker.boot_failures += 1
        has_worked = worker.confined is not None
        if worker.boot_failures < (LATER_FAILURES_MAX if has_worked else BOOT_FAILURES_MAX):
            return False
        self._owner.on_failure(
            RuntimeFailure(
                f"worker {worker.name} failed to start {worker.boot_failures} times in a row "
                f"(last: {why}); the lines above say why"
            )
        )
        return True

    # -- what becomes of it -------------------------------------------------------------------

    def _on_message(self, worker: WorkerProcess, message: Message) -> None:
        if isinstance(message, Ready) and worker.is_ready:
            worker.kill("unexpected message: Ready")  # what it says of itself it says once
        elif isinstance(message, Ready):
            worker.is_ready = True
            worker.boot_failures = 0
            self._note_confined(worker, message.confined)
        elif isinstance(message, ToGateway):
            self._owner.on_message(worker, message)

    def _replace(self, worker: WorkerProcess) -> None:
        worker.unwatch()
        was_ready = worker.is_ready
        status = worker.reap()
        if worker.ring.free_token(worker.role):
            # Also where it did not have it: it may have died between its two steps of waking the
            # consumer, or lied in the first. One that is awake is woken once for nothing.
            os.eventfd_write(self.wake_fds[DIRECTIONS[worker.role]], 1)
        if worker.role == "tun-reader" and self.crossings is not None:
            self.crossings.wake_others(self.index)
        if worker.role == "link-reader" and self.switch is not None:
            self.switch.wake()
        worker.is_ready = False
        worker.restarts += 1
        is_fault = -status in FAULTS
        if is_fault:
            self._template.renew()
            self._faults.append(time.monotonic())
        self._note_death(worker, status)
        if not was_ready and self._gives_up(worker, f"exit status {status}"):
            return
        if time.monotonic() - worker.spawned > SHORT_LIFE_S:
            worker.n_short_lives = 0
        worker.n_short_lives += 1
        if worker.n_short_lives < SHORT_LIVES_MAX and not (is_fault and self._crashes_often()):
            self._start_when_ready(worker)
        else:
            self._owner.on_death(worker)
            self._start_later(worker, is_fault=is_fault)

    def _note_confined(self, worker: WorkerProcess, confined: Confined) -> None:
        if self.keys.secret_error:
            said = f"secret memory for keys ({self.keys.secret_error})"
            confined = structs.replace(confined, lacks=(*confined.lacks, said))
        is_first = all(each.confined is None for each in self.workers.values())
        if is_first and self._template.is_news(confined.lacks):
            said = ", ".join(confined.lacks)
            self._log.warning("this kernel cannot fully confine the workers", lacks=said)
        if why := self._template.users.why:
            lacks = (*confined.lacks, f"a user of their own ({why})")
            confined = structs.replace(confined, lacks=lacks)
        worker.confined = confined

    def _note_death(self, worker: WorkerProcess, status: int) -> None:
        call = self.stats.take_forbidden_call(worker.role)
        if -status != signal.SIGSYS or call is None:
            self._log.warning("worker died, replacing it", worker=worker.name, status=status)
            return
        worker.count_forbidden(call)
        self._log.error(
            "worker made a system call that it may not make, replacing it",
            worker=worker.name,
            system_call=call,
        )

    def _crashes_often(self) -> bool:
        is_full = len(self._faults) == FAULTS_MAX
        return is_full and time.monotonic() - self._faults[0] < FAULTS_WINDOW_S
