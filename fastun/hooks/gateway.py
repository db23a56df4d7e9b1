"""The hooks of a gateway: when each is run, in step with its device.

    pre_up --> the device is made, with addresses and routes --> up --> traffic
    traffic has ended, and peers' hooks with it --> down --> the device goes --> post_down

`up` is waited for, so that what it sets up is there before the first packet. A hook that fails is
logged, and the gateway goes on; but PreUp and PostUp of a wg-quick file end the start, as with
wg-quick(8). `down` is run whenever `up` was begun, and `post_down` whenever `pre_up` was, however
the gateway ends, but for SIGKILL and a gateway that hangs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as NotDone
from typing import TYPE_CHECKING, Final, Self

from fastun import ending, log
from fastun.config.hooks import key_of
from fastun.errors import FastunError, RuntimeFailure
from fastun.hooks import facts

if TYPE_CHECKING:
    from fastun.config.hooks import Command
    from fastun.config.settings import Settings
    from fastun.host.hooks.job import Job
    from fastun.host.process.gateway_hook_runner import GatewayHookRunner
    from fastun.link.table import Link

_LOOK_EVERY_S: Final = 0.05
# Of the process that runs them: to start, and to kill a hook.
GRACE_S: Final = 5.0


class GatewayHooks:
    """Runs the hooks of one gateway. Use as a context manager, on the main thread."""

    def __init__(self, settings: Settings, runner: GatewayHookRunner) -> None:
        """Have ``runner`` run those of ``settings``."""
        self.settings = settings
        self.runner = runner
        self.endpoints: dict[str, str] = {}  # by public key, where peers on UDP were last
        self._log = log.get("hooks")

    def __enter__(self) -> Self:
        """Run `pre_up`. Raises RuntimeFailure, as `while_up`."""
        try:
            self.run("pre_up", may_be_cut=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Run `post_down`."""
        self.run("post_down")

    async def change(self, _: Settings, now: Settings) -> tuple[str, ...]:
        """Run those of these settings from now on."""
        self.settings = now
        return ()

    @contextlib.contextmanager
    def while_up(self) -> Iterator[None]:
        """Run `up`, and at the end `down`."""
        try:
            self.run("up", may_be_cut=True)
            yield
        finally:
            self.run("down")
            self._save()

    def run(self, event: str, *, may_be_cut: bool = False) -> None:
        """Run what there is for an event, one after another; log what fails.

        ``may_be_cut``: killed as soon as fastun is asked to stop.
        """
        for index, command in enumerate(self.settings.hooks.of(event), 1):
            if may_be_cut and ending.is_asked():
                return
            limit_s = self.settings.hooks.timeout_s
            with ending.extended(limit_s + GRACE_S):
                job = self.begin(event, command)
                error = self._wait(job, limit_s + GRACE_S, may_be_cut=may_be_cut)
            if self.settings.hooks.file is not None:
                self._note_shell(event, index, error)
            else:
                self.note(job, command, error)

    def _note_shell(self, event: str, index: int, error: str) -> None:
        """Log or raise how a command of a wg-quick file has failed; its text may hold a key."""
        if not error or (ending.is_asked() and event in ("pre_up", "up")):
            return
        which = f"{self.settings.hooks.file}: {key_of(event)}: command {index}: {error}"
        if event in ("pre_up", "up"):
            raise RuntimeFailure(f"{which}; fix it (the log has what it printed), or remove it")
        self._log.warning("the command failed; fix it", command=which)

    def note_endpoint(self, link: Link, public_key: str) -> None:
        """Note where a peer is, for the file that is to have it at the end."""
        if self.settings.hooks.save_to is None:
            return
        if link.transport == "udp":
            self.endpoints[public_key] = link.remote.rpartition("://")[2]
        else:
            self.endpoints.pop(public_key, None)

    def _save(self) -> None:
        if self.settings.hooks.save_to is not None and self.endpoints:
            try:
                self.runner.save(self.endpoints)
            except FastunError as error:
                self._log.warning("cannot save the endpoints of peers", error=str(error))

    def begin(self, event: str, command: Command, link: Link | None = None) -> Job:
        """Have a program run; `note` takes its result. Any thread but the event loop's."""
        said, its_facts = {"hook": event}, {}
        if event == "down":
            its_facts["FASTUN_REASON"] = ending.reason()
        if link is not None:
            its_facts = facts.of_peer(link, event)
            said["peer"] = link.peer_name
        return self.runner.begin(
            event, self.settings.hooks.of(event).index(command), its_facts, said
        )

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
