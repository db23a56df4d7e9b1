"""The hooks of a gateway: when each is run, in step with its device.

    the device is there, with addresses and routes --> up --> traffic
    traffic has ended, and peers' hooks with it --> down --> the device goes

`up` is waited for, so that what it sets up is there before the first packet. A hook that fails is
logged, and the gateway goes on. `down` is run whenever `up` was begun, however the gateway ends,
but for SIGKILL and a gateway that hangs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as NotDone
from typing import TYPE_CHECKING, Final, Self

from fastun import ending, log
from fastun.hooks import facts
from fastun.hooks.runner import HookRunner, Job

if TYPE_CHECKING:
    from fastun.config.hooks import Command
    from fastun.config.settings import Settings
    from fastun.link.table import Link

_LOOK_EVERY_S: Final = 0.05
# Of the process that runs them: to start, and to kill a hook.
GRACE_S: Final = 5.0


class GatewayHooks:
    """Runs the hooks of one gateway. Use as a context manager, on the main thread."""

    def __init__(self, settings: Settings) -> None:
        """Run those of ``settings``."""
        self.settings = settings
        self.runner = HookRunner()
        self._addresses: Callable[[], Iterable[object]] = lambda: self.settings.addresses
        self._log = log.get("hooks")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what still runs."""
        self.runner.close()

    async def change(self, _: Settings, now: Settings) -> tuple[str, ...]:
        """Run those of these settings from now on."""
        self.settings = now
        return ()

    @contextlib.contextmanager
    def while_up(self, pushed: Callable[[], Iterable[object]]) -> Iterator[None]:
        """Run `up`, and at the end `down`. ``pushed`` returns the addresses that a server gave."""
        self._addresses = lambda: [*self.settings.addresses, *pushed()]
        try:
            self.run("up", may_be_cut=True)
            yield
        finally:
            self.run("down")

    def run(self, event: str, *, may_be_cut: bool = False) -> None:
        """Run what there is for an event, one after another; log what fails.

        ``may_be_cut``: killed as soon as fastun is asked to stop.
        """
        for command in self.settings.hooks.of(event):
            if may_be_cut and ending.is_asked():
                return
            limit_s = self.settings.hooks.timeout_s
            with ending.extended(limit_s + GRACE_S):
                job = self.begin(event, command)
                self.note(job, command, self._wait(job, limit_s + GRACE_S, may_be_cut=may_be_cut))

    def begin(self, event: str, command: Command, link: Link | None = None) -> Job:
        """Have a program run; `note` takes its result. Any thread."""
        environment = facts.of_gateway(self.settings, event, self._addresses())
        said = {"hook": event}
        if event == "down":
            environment["FASTUN_REASON"] = ending.reason()
        if link is not None:
            environment |= facts.of_peer(link, event)
            said["peer"] = link.peer_name
        return self.runner.begin(command, environment, self.settings.hooks.timeout_s, said)

    def note(self, job: Job, command: Command, error: str) -> None:
        """Log how a program has failed, if it has."""
        if error:
            self._log.warning(
                "the hook failed; fix its program, or raise hooks.timeout if it needs longer",
                **job.said,
                program=command[0],
                error=error,
            )

    def _wait(self, job: Job, limit_s: float, *, may_be_cut: bool) -> str:
        until_s = time.monotonic() + limit_s
        is_cut = False
        while time.monotonic() < until_s:
            with contextlib.suppress(NotDone):
                return job.done.result(_LOOK_EVERY_S)
            if may_be_cut and ending.is_asked() and not is_cut:
                is_cut = True
                self.runner.cancel(job)
        return self.runner.give_up(job)
