"""Applying changed settings while the gateway runs.

    file, command line --read--> settings --settings_change.py--> plan --> each part --> in effect

Everything is checked first: the file as at a start, then what the parts say of the plan. They go
from the settings that run to the new ones in an order, those that the system may refuse first;
where one fails, those before it go back the same way, from the new settings to the old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from fastun import log
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.gateway.settings_change import plan

if TYPE_CHECKING:
    from fastun.config.settings import Settings

# Returns the settings as they are now; as `load`.
Reread = Callable[[Callable[[str], None]], "Settings"]

# Goes from some settings to others; returns what was left out of it, and why.
Change = Callable[["Settings", "Settings"], Awaitable[Iterable[str]]]


class Part(msgspec.Struct, frozen=True):
    """What owns some of the settings: called when one of ``fields`` changes.

    ``check`` raises ConfigError for settings that cannot be; it changes nothing. ``change`` leaves
    everything as it was where it raises, or is called again the other way round.
    """

    fields: frozenset[str]
    change: Change
    check: Callable[[Settings], None] = lambda _: None


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload did: a line each. ``left_out`` is what the system did not take.

    ``remarks`` are what the file says that is hardly meant.
    """

    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Reload:
    """Of one gateway. Event loop only."""

    def __init__(
        self,
        running: Callable[[], Settings],
        read: Reread,
        parts: Iterable[Part],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Compare what is ``running`` with what ``read`` returns, which may block: ConfigError.

        It is given what is to be called with a line for each thing that is hardly meant.

        ``note`` is given the error of each reload, empty for one that has succeeded.
        """
        self._running = running
        self._read = read
        self._parts = tuple(parts)
        self._note = note
        self._one_at_a_time = asyncio.Lock()
        self._log = log.get("reload")

    async def __call__(self) -> Reloaded:
        """Take up what has changed. Raises FastunError where nothing has: its text says why."""
        async with self._one_at_a_time:
            try:
                reloaded = await self._reload()
            except FastunError as error:
                self._log.error("not reloaded", error=str(error))
                self._note(str(error))
                raise
        self._note("")
        for line in reloaded.changes:
            self._log.info("changed", what=line)
        for name in reloaded.needs_restart:
            self._log.warning("changed in the file, needs a restart", field=name)
        for line in reloaded.left_out:
            self._log.warning("not applied", what=line)
        for line in reloaded.remarks:
            self._log.warning(line)
        self._log.info("reloaded", changes=len(reloaded.changes))
        return reloaded

    async def _reload(self) -> Reloaded:
        remarks: list[str] = []
        read = await asyncio.to_thread(self._read, remarks.append)
        before = self._running()
        planned = plan(before, read)
        concerned = [part for part in self._parts if part.fields & planned.fields]
        for part in concerned:
            part.check(planned.settings)
        left_out = await self._apply(concerned, before, planned.settings)
        return Reloaded(planned.changes, planned.needs_restart, tuple(left_out), tuple(remarks))

    async def _apply(self, parts: list[Part], before: Settings, now: Settings) -> list[str]:
        left_out: list[str] = []
        for n, part in enumerate(parts):
            try:
                left_out += await part.change(before, now)
            except (FastunError, OSError) as error:
                stuck = await self._go_back(parts[: n + 1], before, now)
                kind = ConfigError if isinstance(error, ConfigError) else RuntimeFailure
                raise kind(f"{error}; {stuck or 'nothing was changed'}") from None
        return left_out

    async def _go_back(self, parts: list[Part], before: Settings, now: Settings) -> str:
        """Undo; return what could not be undone, in words."""
        stuck = []
        for part in reversed(parts):
            try:
                await part.change(now, before)
            except (FastunError, OSError) as error:
                stuck.append(f"could not go back to {', '.join(sorted(part.fields))}: {error}")
        return "; ".join(stuck)
