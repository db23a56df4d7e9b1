"""What ``serve`` and ``connect`` run: the device, the gateway, and what shows it to others.

The only module that knows both the gateway and its observers, the metrics server and the control
socket: they read views of the gateway, which knows nothing of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fastun import descriptors, ending, log
from fastun.config.settings import Settings
from fastun.errors import FastunError
from fastun.gateway import privileges
from fastun.gateway.captures import Captures
from fastun.gateway.gateway import LOOP_END_LIMIT_S, Gateway
from fastun.gateway.late_networks import with_networks
from fastun.gateway.live_parts import parts_of
from fastun.gateway.reload import Part, Reload, Reloaded, Reread
from fastun.gateway.settings_change import LIVE
from fastun.gateway.supplies import of as supplies_of
from fastun.gateway.viewer import Viewer
from fastun.hooks.gateway import GatewayHooks
from fastun.hooks.peers import PeerHooks
from fastun.host.process import forking, messages
from fastun.host.process.client import HostClient
from fastun.host.process.gateway_device import GatewayDevice
from fastun.host.process.gateway_hook_runner import GatewayHookRunner
from fastun.host.process.gateway_kill_switch import GatewayKillSwitch
from fastun.host.process.gateway_sockets import GatewaySockets
from fastun.lane.template import Template
from fastun.link.names import literal
from fastun.session.timer_constants import TimerConstants
from fastun.status.capture_service import CaptureService
from fastun.status.server import serve as serve_status
from fastun.status.service_manager import ServiceManager

if TYPE_CHECKING:
    from fastun.metrics.server import MetricsServer


_ALL: Final = frozenset(LIVE)  # fields of the settings, of which some part changes each


def run(
    settings: Settings,
    constants: TimerConstants | None = None,
    remarks: Iterable[str] = (),
    host: HostClient | None = None,
) -> None:
    """Run a gateway until it is asked to stop, and undo its changes of the host.

    ``remarks`` are what is hardly meant in the settings, a line each. ``host`` is the host process
    of these settings; it may have been asked to begin, and is ended here.
    Main thread only. Raises FastunError, also for what could not be undone.
    """
    host = host or forking.started(settings)  # before there is a thread
    log.configure(*settings.log)
    log.unblock()
    _warn_of_exposed(settings)
    for line in remarks:
        log.get("gateway").warning(line)
    descriptors.allow()
    with (
        contextlib.closing(ServiceManager.of_environment()) as manager,
        ending.watched() as asked,
        _restored(host),
        contextlib.suppress(ending.AskedToStop),
        ending.guarded(LOOP_END_LIMIT_S, lambda: _end_regardless(host)),
    ):
        ending.check()
        if settings.hooks.of("pre_up"):
            host.have(messages.UndoLeft())
        # The template imports while the device is made.
        supplies = supplies_of(host, settings)
        sockets = GatewaySockets(host)
        hooks = GatewayHooks(settings, GatewayHookRunner(host))
        with Template(sockets, host.users, sockets.start_template) as template, hooks:
            host.begin(messages.Begin())
            with GatewayDevice(host, settings) as device, hooks.while_up():
                settings = with_networks(replace(settings, fwmark=device.fwmark), device.networks)
                gateway = Gateway(
                    settings,
                    device,
                    constants or TimerConstants(),
                    template=template,
                    kill_switch=GatewayKillSwitch(host),
                    supplies=supplies,
                )
                privileges.give_up(host.users)
                observing = functools.partial(observed, host=host, hooks=hooks, manager=manager)
                asyncio.run(gateway.run(asked, observing))


@contextlib.contextmanager
def _restored(host: HostClient) -> Iterator[None]:
    """Have the host process undo the journal at the end. Raises RuntimeFailure for what it cannot.

    But for no other error.
    """
    with host:
        yield
        host.end()


@contextlib.asynccontextmanager
async def observed(
    gateway: Gateway,
    host: HostClient,
    hooks: GatewayHooks,
    manager: ServiceManager,
) -> AsyncIterator[Callable[[], None]]:
    """Serve the gateway's metrics and its control socket; yields what reloads. RuntimeFailure.

    ``host`` reads the settings again. ``hooks`` follow the peers, ``manager`` the whole.
    """
    settings, viewer = gateway.settings, Viewer(gateway)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(PeerHooks(hooks).following(gateway.links))
        stack.callback(viewer.close)
        metrics = _Metrics(gateway, viewer)
        stack.callback(metrics.close)
        if settings.metrics is not None:
            metrics.begin(settings.metrics)
        of_others = (Part(frozenset(["metrics"]), metrics.change), Part(_ALL, hooks.change))
        parts = (*of_others, *parts_of(gateway))
        running = functools.partial(_running, gateway)
        reload = Reload(running, _rereading(gateway, host), parts, viewer.note_reload)
        reloading = manager.of_reloads(reload)
        await stack.enter_async_context(
            serve_status(
                GatewaySockets(host).control(),
                viewer.view,
                gateway.peer_sync.refresh,
                reloading,
                functools.partial(
                    CaptureService, Captures(gateway.lanes, gateway.peer_slots), settings.mode
                ),
                drain=gateway.moves.order,
            )
        )
        await stack.enter_async_context(manager.following(gateway, viewer.health))
        yield stack.enter_context(_in_the_background(reloading))


def _running(gateway: Gateway) -> Settings:
    """Return what the gateway runs on: it may push more than it did at first (late_networks.py)."""
    settings, pushing = gateway.settings, gateway.peer_sync.settings
    if settings.role == "serve" and pushing.role == "serve":
        return replace(settings, push=pushing.push)
    return settings


def _rereading(gateway: Gateway, host: HostClient) -> Reread:
    settings = gateway.settings

    def read(remark: Callable[[str], None]) -> Settings:
        running = _running(gateway)
        read = with_networks(host.reading.read(running, remark), gateway.device.networks)
        # The mark that fastun has chosen stays as long as none is configured.
        return read if read.fwmark else replace(read, fwmark=settings.fwmark)

    return read


@contextlib.contextmanager
def _in_the_background(
    reload: Callable[[], Coroutine[None, None, Reloaded]],
) -> Iterator[Callable[[], None]]:
    """Yield what begins a reload; the log says what became of it."""
    tasks: set[asyncio.Task[None]] = set()

    async def quietly() -> None:
        with contextlib.suppress(FastunError):
            await reload()

    def begin() -> None:
        if len(tasks) <= 1:  # one that waits applies what both have asked for
            tasks.add(task := asyncio.create_task(quietly()))
            task.add_done_callback(tasks.discard)

    try:
        yield begin
    finally:
        for task in tasks:
            task.cancel()


class _Metrics:
    """The metrics address of a gateway. Its server is loaded where there is one: 3 MiB."""

    def __init__(self, gateway: Gateway, viewer: Viewer) -> None:
        self._gateway, self._viewer = gateway, viewer
        self._server: MetricsServer | None = None

    def begin(self, where: tuple[str, int]) -> None:
        """Answer there. Raises RuntimeFailure."""
        self._server = self._made()
        self._server.begin(where)
        self._watch(where)

    def _made(self) -> MetricsServer:
        from fastun.metrics.server import MetricsServer  # noqa: PLC0415 (http.server and more)

        sockets = self._gateway.outside.sockets
        return MetricsServer(self._viewer.view, self._viewer.health, sockets)

    def _watch(self, where: tuple[str, int]) -> None:
        for address in literal(*where):
            self._gateway.listening.watch("metrics.listen", address)

    async def _change(self, before: tuple[str, int] | None, now: tuple[str, int] | None) -> None:
        if self._server is None:
            self._server = self._made()
        await asyncio.to_thread(self._server.change, now)  # it may look up a name
        for address in () if before is None else literal(*before):
            self._gateway.listening.forget("metrics.listen", address)
        if now is not None:
            self._watch(now)

    async def change(self, before: Settings, now: Settings) -> tuple[str, ...]:
        await self._change(before.metrics, now.metrics)
        _warn_of_exposed(now)
        return ()

    def close(self) -> None:
        if self._server is not None:
            self._server.change(None)


def _warn_of_exposed(settings: Settings) -> None:
    if settings.metrics is not None and settings.metrics_are_exposed:
        log.get("gateway").warning("the metrics can be read by other hosts", at=settings.metrics[0])


def _end_regardless(host: HostClient) -> None:
    host.close()
    log.get("gateway").error("the gateway did not stop in time; the host was restored without it")
    log.end()
