"""What runs in the host process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import setproctitle

from fastun import ending, log, native
from fastun.errors import RuntimeFailure
from fastun.host.journal.journal import UNDO_LIMIT_S
from fastun.host.process.server import HostServer
from fastun.host.process.supply import Supply
from fastun.host.process.work import HostWork
from fastun.library_errors import Restraint
from fastun.threads import DaemonThreads

if TYPE_CHECKING:
    import socket

    from fastun.config.settings import Settings
    from fastun.host.process.work import Reread
    from fastun.host.users import Users


TITLE: Final = "fastun: host"

# No step of the undoing takes longer than all may (journal.py); but a thread that hangs, on a file
# of a network that has gone, may have what the end waits for.
END_LIMIT_S: Final = UNDO_LIMIT_S + 9.0


def serve(
    end: socket.socket, bell: int, settings: Settings, reread: Reread | None, users: Users
) -> None:
    """Do what the gateway asks until its channel ends; then restore this host."""
    setproctitle.setproctitle(TITLE)
    log.configure(*settings.log)
    log.unblock()
    work = HostWork(settings, reread)
    supply = Supply(work, users)
    work.behind = supply.behind
    try:
        native.hide_memory()  # the settings have keys
        asyncio.run(_serve(end, bell, work, supply))
    finally:
        ending.ask("the gateway has ended")
        with ending.guarded(END_LIMIT_S, _give_up):
            supply.close()
            work.close()
            with contextlib.suppress(RuntimeFailure):  # which the log has
                work.end()
            log.end()


def _give_up() -> None:
    log.get("host").error("the host was not restored in time; the next start undoes what is left")
    log.end()


async def _serve(end: socket.socket, bell: int, work: HostWork, supply: Supply) -> None:
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    asyncio.get_running_loop().set_exception_handler(Restraint())
    server = HostServer(end, {**work.handlers, **supply.handlers}, work.now, work.watching)

    def on_step() -> None:
        server.say_now()
        log.say_held_back()

    work.on_step, work.say = on_step, server.say_soon
    await server.run(bell)
