"""What ``serve`` and ``connect`` run: the device, the gateway, and what shows it to others.

The only module that knows both the gateway and its observers, the metrics server and the control
socket: they read views of the gateway, which knows nothing of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastun import descriptors, ending, log
from fastun.config.settings import Settings
from fastun.gateway.gateway import LOOP_END_LIMIT_S, Gateway
from fastun.gateway.viewer import Viewer
from fastun.host.device import Device
from fastun.host.forward_ways import with_networks
from fastun.host.journal import Journal
from fastun.host.name_lookup import DnsFiles
from fastun.host.routes import prepared
from fastun.lane.template import Template
from fastun.link.names import literal
from fastun.session.timer_constants import TimerConstants
from fastun.status import control
from fastun.status.server import serve as serve_status


def run(settings: Settings, constants: TimerConstants | None = None) -> None:
    """Run a gateway until it is asked to stop, and undo its changes of the host.

    Main thread only. Raises FastunError, also for what could not be undone.
    """
    log.configure(settings.log_format, settings.verbosity)
    log.unblock()
    if settings.metrics is not None and settings.metrics_are_exposed:
        log.get("gateway").warning("the metrics can be read by other hosts", at=settings.metrics[0])
    descriptors.allow()
    with (
        ending.watched() as asked,
        Journal(settings.state_dir, settings.interface) as journal,
        contextlib.suppress(ending.AskedToStop),
        ending.guarded(LOOP_END_LIMIT_S, lambda: _end_regardless(journal)),
    ):
        ending.check()
        with Template() as template:  # it imports while the device is made
            settings = with_networks(prepared(settings))
            dns_before = DnsFiles.read()
            with Device(settings, journal) as device:
                gateway = Gateway(
                    settings,
                    device,
                    constants or TimerConstants(),
                    dns_before=dns_before,
                    template=template,
                )
                asyncio.run(gateway.run(asked, observed))


@contextlib.asynccontextmanager
async def observed(gateway: Gateway) -> AsyncIterator[None]:
    """Serve the gateway's metrics and its control socket. Raises RuntimeFailure."""
    settings, viewer = gateway.settings, Viewer(gateway)
    path = control.socket_path(settings.run_dir, settings.interface)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(viewer.close)
        if settings.metrics is not None:
            from fastun.metrics import server  # noqa: PLC0415 (3 MiB: http.server and more)

            stack.enter_context(server.serve(settings.metrics, viewer.view, viewer.health))
            for address in literal(*settings.metrics):
                gateway.listening.watch("metrics.listen", address)
        await stack.enter_async_context(serve_status(path, viewer.view, gateway.peer_sync.refresh))
        yield


def _end_regardless(journal: Journal) -> None:
    journal.undo_all()
    log.get("gateway").error("the gateway did not stop in time; the host was restored without it")
    log.end()
