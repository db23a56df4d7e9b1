"""What the gateway has in place of a runner of hooks: the host process runs them."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, cast

from fastun.errors import FastunError
from fastun.host.hooks.job import Job
from fastun.host.process import messages
from fastun.host.process.messages import HookDone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastun.host.process.client import HostClient
    from fastun.host.process.messages import FactName, HookEvent

_LOST = "the host process, which runs hooks, has ended or does not answer"


class GatewayHookRunner:
    """That of one gateway. Any thread; never waits for a hook."""

    def __init__(self, host: HostClient) -> None:
        """Ask ``host``."""
        self._host = host
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count()
        self._mutex = threading.Lock()
        host.on_notice(HookDone, self._on_done)

    def begin(self, event: str, index: int, facts: Mapping[str, str], said: dict[str, str]) -> Job:
        """Have a command of the settings run; ``facts`` are what it finds of a peer."""
        job = Job(number=next(self._numbers), said=said)
        with self._mutex:
            self._jobs[job.number] = job
        asked = messages.RunHook(
            job=job.number,
            event=cast("HookEvent", event),
            index=index,
            facts=cast("dict[FactName, str]", dict(facts)),
            peer=said.get("peer", "")[: messages.LINE_CHARACTERS_MAX],
        )
        try:
            self._host.have(asked)
        except (FastunError, OSError) as error:
            self.give_up(job)
            job.end(f"cannot be started: {error}")
        return job

    def cancel(self, job: Job) -> None:
        """Kill it. Does not wait."""
        self._host.tell(messages.CancelHook(job=job.number))

    def give_up(self, job: Job) -> str:
        """Wait no longer for one that did not end in time; return why."""
        with self._mutex:
            self._jobs.pop(job.number, None)
        return _LOST

    def save(self, endpoints: Mapping[str, str]) -> None:
        """Have the file of the settings say where peers were last, by public key."""
        self._host.have(messages.SaveEndpoints(endpoints=dict(endpoints)))

    def _on_done(self, done: HookDone) -> None:
        with self._mutex:
            job = self._jobs.pop(done.job, None)
        if job is not None:
            job.end(done.error)
