"""Settings that the host process reads again, as the gateway gets them.

The gateway may not read their file. It asks, plans what changes, and names the fields; values come
to the host process from the file alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from fastun.host.process import messages
from fastun.host.process.messages import FIELDS, SettingsRead

if TYPE_CHECKING:
    from fastun.config.settings import Settings
    from fastun.host.process.messages import Field, Message


class Reading:
    """Of one gateway. One reload at a time."""

    def __init__(self, call: Callable[[Message, type[SettingsRead]], SettingsRead]) -> None:
        """Ask by ``call``."""
        self._call = call
        self._before: Settings | None = None  # when they were read

    def read(self, running: Settings, remark: Callable[[str], None]) -> Settings:
        """Return the settings as they are now. ``running`` are those of before. ConfigError."""
        answer = self._call(messages.Reread(), SettingsRead)
        self._before = running
        for line in answer.remarks:
            remark(line)
        # From the process that has more rights to the one that has less.
        return cast("Settings", pickle.loads(answer.settings))  # noqa: S301

    def fields(self, settings: Settings) -> tuple[Field, ...]:
        """Return in which fields these are as they were read: none, where they go back."""
        before = self._before
        if before is None:
            return ()
        return tuple(
            name for name in FIELDS if getattr(settings, name, None) != getattr(before, name, None)
        )
