"""Notices a host process that is stopped, or does not answer, and says so until it does again.

It is not killed: it alone can restore the host, and whoever stopped it may let it go on. What a
tunnel carries goes on meanwhile; what others change of this host is not made again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.host.process import messages
from fastun.pace import PACE

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fastun.host.process.client import HostClient

LOOK_S: Final = 2.0
#: Looks without an answer: 10 s, but not those of a host that was suspended, or a stopped tree.
UNANSWERED_MAX: Final = 5


class HostWatch:
    """Of one host process. Event loop only."""

    def __init__(self, host: HostClient) -> None:
        """Prepare; `run` watches."""
        self._host = host
        self._is_stopped = False
        self._asked: Future[object] | None = None
        self._n_unanswered = 0
        self._log = log.get("host")

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await PACE.next_look(LOOK_S)
            self.look()

    def look(self) -> None:
        """Look whether it is stopped, and ask it, if it has answered."""
        self._is_stopped = self._stopped()
        if self._asked is not None and not self._asked.done():
            self._n_unanswered = 0 if self._is_stopped else self._n_unanswered + 1
        else:
            self._n_unanswered = 0
            self._asked = None if PACE.is_quiet else self._host.tell(messages.Ping())
        self._say()

    def _stopped(self) -> bool:
        """Return whether it is; the kernel reports the newest change to us, its parent."""
        with contextlib.suppress(ChildProcessError):
            flags = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
            changed = os.waitid(os.P_PID, self._host.pid, flags)
            if changed is not None:
                return changed.si_code == os.CLD_STOPPED
        return self._is_stopped

    def _say(self) -> None:
        fault = ""
        if self._is_stopped:
            fault = f"the host process is stopped; run 'kill -CONT {self._host.pid}'"
        elif self._n_unanswered >= UNANSWERED_MAX:
            fault = "the host process does not answer; start fastun again"
        if fault and fault != self._host.fault:
            self._log.warning(f"{fault} (nothing of this host can be changed meanwhile)")
        elif self._host.fault and not fault:
            self._log.info("the host process answers again")
        self._host.fault = fault
