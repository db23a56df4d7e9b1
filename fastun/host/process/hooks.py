"""Hooks that the gateway has the host process run: which, and when; never a program of its own.

The gateway names an event and the place of a command in the settings. What it says of a peer goes
into the command's environment, under the names that are for that.
"""

from __future__ import annotations

import re
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from fastun.errors import RuntimeFailure, quote
from fastun.host.hooks import facts, saving
from fastun.host.hooks.runner import HookRunner
from fastun.host.process.channel import Unasked
from fastun.host.process.messages import HookDone
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from fastun.config.settings import Settings
    from fastun.host.hooks.job import Job
    from fastun.host.process.messages import CancelHook, RunHook, SaveEndpoints

#: More than the gateway runs at a time (hooks/peers.py), each of which is a process or more.
AT_ONCE_MAX: Final = 32

_PORT_MAX: Final = 65535
_PLAIN: Final = re.compile(r"[][0-9A-Za-z:.%_-]+")


class HostHooks:
    """Those of one host process. Any thread; none of this waits for a hook."""

    def __init__(self, say: Callable[[HookDone], None]) -> None:
        """Have the gateway hear by ``say``, from any thread, how each has ended."""
        self._say = say
        self._runner = HookRunner()
        self._jobs: dict[int, Job] = {}
        self._mutex = threading.Lock()

    def run(self, asked: RunHook, settings: Settings, addresses: Iterable[object]) -> None:
        """Run one. Raises RuntimeFailure where there is none, as a moment after a reload."""
        commands = settings.hooks.of(asked.event)
        if asked.index >= len(commands):
            raise RuntimeFailure("there is no such hook any more")
        of_peer = {str(name): text for name, text in asked.facts.items()}
        environment = facts.of_gateway(settings, asked.event, addresses) | facts.clean(of_peer)
        said = {"hook": asked.event} | ({"peer": asked.peer} if asked.peer else {})
        with self._mutex:
            if asked.job in self._jobs or len(self._jobs) >= AT_ONCE_MAX:
                raise Unasked("too many hooks at once")
            job = self._runner.begin(
                commands[asked.index], environment, settings.hooks.timeout_s, said
            )
            self._jobs[asked.job] = job
        job.done.add_done_callback(lambda done: self._on_done(asked.job, done))

    def cancel(self, asked: CancelHook) -> None:
        """Kill it."""
        with self._mutex:
            job = self._jobs.get(asked.job)
        if job is not None:
            self._runner.cancel(job)

    def _on_done(self, number: int, done: Future[str]) -> None:
        with self._mutex:
            self._jobs.pop(number, None)
        self._say(HookDone(job=number, error=done.result()))

    def close(self) -> None:
        """Kill what still runs."""
        self._runner.close()

    @staticmethod
    def save(asked: SaveEndpoints, settings: Settings) -> None:
        """Write where peers were last into their file, which may have commands: nothing else."""
        keys = {format_key(peer.public_key) for peer in settings.peers}
        for key, endpoint in asked.endpoints.items():
            if key not in keys or not _is_address_and_port(endpoint):
                raise Unasked(f"{quote(endpoint)} for the endpoint of a peer")
        if settings.hooks.save_to is not None and asked.endpoints:
            saving.save(settings.hooks.save_to, asked.endpoints)


def _is_address_and_port(text: str) -> bool:
    if not _PLAIN.fullmatch(text):  # a zone may be anything
        return False
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    written = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
    is_number = port.isascii() and port.isdecimal()
    return host == written and is_number and 0 < int(port) <= _PORT_MAX
