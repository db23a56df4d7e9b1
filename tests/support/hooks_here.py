"""Hooks that are run without a host process."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fastun.host.process import messages
from fastun.host.process.gateway_hook_runner import GatewayHookRunner
from fastun.host.process.hooks import HostHooks
from fastun.host.process.messages import HookDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.config.settings import Settings
    from fastun.host.process.client import HostClient
    from fastun.host.process.messages import Message


class _Here:
    """What the host process does with what a gateway asks for its hooks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hooks = HostHooks(lambda done: self._on_done(done))  # noqa: PLW0108 (that is set later)
        self._on_done: Callable[[HookDone], None] = lambda _: None

    def on_notice(self, _: type[HookDone], function: Callable[[HookDone], None]) -> None:
        self._on_done = function

    def have(self, asked: Message) -> None:
        if isinstance(asked, messages.RunHook):
            self._hooks.run(asked, self._settings, self._settings.addresses)
        elif isinstance(asked, messages.CancelHook):
            self._hooks.cancel(asked)
        elif isinstance(asked, messages.SaveEndpoints):
            self._hooks.save(asked, self._settings)

    tell = have


def runner_here(settings: Settings) -> GatewayHookRunner:
    """Return what has the hooks of these settings run."""
    return GatewayHookRunner(cast("HostClient", _Here(settings)))
