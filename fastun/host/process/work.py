"""What the host process does of what it is asked: the device, the kill switch, the journal.

Each method with a request is called on a thread of its own; two that change the same thing wait for
each other where it is changed.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastun import log
from fastun.ending import AskedToStop
from fastun.errors import RuntimeFailure
from fastun.host import link_state
from fastun.host.condition import REPAIRED
from fastun.host.device import Device
from fastun.host.dns.name_lookup import DnsFiles
from fastun.host.firewall.kill_switch import KillSwitch
from fastun.host.journal.journal import Journal
from fastun.host.monitor import HostMonitor
from fastun.host.process import checks, messages
from fastun.host.process.channel import Unasked
from fastun.host.process.checks import Checks
from fastun.host.process.hooks import HostHooks
from fastun.host.process.messages import (
    Begun,
    Changed,
    DnsNow,
    HostNow,
    KillSwitchNow,
    SettingsRead,
)
from fastun.host.process.server import Answered
from fastun.host.routing.routes import prepared
from fastun.pace import PACE

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Mapping

    from fastun.config.settings import Settings
    from fastun.host.inner_mtu import InnerMtu
    from fastun.host.process.messages import Message
    from fastun.host.wanted import Applied
    from fastun.peers.peer import Network

# Returns the settings of the same command line and file as they are now; ConfigError.
Reread = Callable[[Callable[[str], None]], "Settings"]


class HostWork:
    """That of one gateway."""

    def __init__(self, settings: Settings, reread: Reread | None) -> None:
        """Prepare; nothing is touched before `undo_left` or `begin`."""
        self._settings = settings
        self._before = settings  # a reload that fails goes back to these
        self._read = settings  # by the last `reread`
        self._reread = reread
        self._journal = Journal(settings.state_dir, settings.interface)
        self._checks = Checks(settings)
        self._device: Device | None = None
        self._switch: KillSwitch | None = None
        self._dns_before = DnsFiles()  # as they were before there was a device
        self._others_mtu = OthersMtu()
        self._seen: tuple[object, int] = (None, 0)  # what was wanted last, and how often it changed
        self._has_undone_left = self._is_watched = False
        self._is_closed = self._is_undone = False
        self.behind: Callable[[], frozenset[Network]] = frozenset  # peers of the directory
        self.on_step: Callable[[], None] = lambda: None  # for what is watched, on the event loop
        self._mutex = threading.Lock()
        self.say: Callable[[Message], None] = lambda _: None  # a notice, from any thread
        self._hooks = HostHooks(lambda done: self.say(done))  # noqa: PLW0108 (that is set later)

    @property
    def settings(self) -> Settings:
        """Those that it goes by now. Any thread."""
        return self._settings

    def known(self) -> tuple[Settings, ...]:
        """Return these, those of before, and those that a reload has read. Any thread."""
        return (*self._checks.newest, self._read)

    def networks(self) -> frozenset[Network]:
        """Return the private networks that this host forwards to. Any thread."""
        device = self._device
        return frozenset() if device is None else frozenset(device.forwarding.networks)

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Answered | Message | None]]:
        """What does each request."""
        return {
            messages.UndoLeft: self.undo_left,
            messages.Begin: self.begin,
            messages.Push: self.push,
            messages.KeepOut: self.keep_out,
            messages.RouteBehind: self.route_behind,
            messages.SetDns: self.set_dns,
            messages.JudgeDns: self.judge_dns,
            messages.FollowEndpoints: self.follow_endpoints,
            messages.AllowLookups: self.allow_lookups,
            messages.Reread: self.reread,
            messages.ChangeDevice: self.change_device,
            messages.TurnKillSwitch: self.turn_kill_switch,
            messages.Adopt: self.adopt,
            messages.Ping: lambda _: None,
            messages.SetQuiet: self.set_quiet,
            messages.RunHook: self.run_hook,
            messages.CancelHook: self._hooks.cancel,
            messages.SaveEndpoints: lambda asked: self._hooks.save(asked, self._settings),
            messages.Close: self.close,
            messages.End: self.end,
        }

    def now(self) -> HostNow | None:
        """Return how the host is, None before there is a device. Any thread."""
        device, switch = self._device, self._switch
        if device is None or switch is None:
            return None
        condition, dns, wanted = device.condition, device.name_servers.state, device.wanted
        if wanted is not self._seen[0]:
            self._seen = wanted, self._seen[1] + 1
        repairs = dict(condition.repairs)
        repairs[REPAIRED["kill switch"]] += switch.n_restored
        return HostNow(
            index=device.index,
            others_mtu=self._others_mtu.n_bytes,
            n_changes=self._seen[1],
            is_here=device.is_here,
            is_up=not condition.is_down,
            fault=condition.fault(),
            repairs=repairs,
            obstacles=condition.forwarding,
            takes_all=wanted.takes_all or wanted.pushed_all,
            has_routes=bool(wanted.routes or wanted.behind),
            pushed_addresses=tuple(map(str, wanted.pushed_addresses)),
            networks=tuple(sorted(map(str, device.forwarding.networks))),
            dns=DnsNow(
                servers=dns.servers,
                domains=dns.domains,
                manager=dns.manager,
                fault=dns.fault,
                is_checked=dns.is_checked,
            ),
            kill_switch=KillSwitchNow(
                is_on=switch.is_on,
                has_lan=switch.has_lan,
                fault=switch.fault,
                n_restored=switch.n_restored,
            ),
        )

    @property
    def _there(self) -> Device:
        if self._device is None:
            self._check_open()
            raise Unasked("something of a device that is not there")
        return self._device

    @property
    def _kill_switch(self) -> KillSwitch:
        if self._switch is None:
            self._check_open()
            raise Unasked("something of a kill switch that is not there")
        return self._switch

    def _check_open(self) -> None:
        """Raise AskedToStop for what a thread of the gateway still asks while that ends."""
        if self._is_closed:
            raise AskedToStop

    # -- the beginning and the end --------------------------------------------------------------

    def undo_left(self, _: messages.UndoLeft | None = None) -> None:
        """Undo what fastuns that were killed have left, once. Raises AskedToStop."""
        with self._mutex:
            if not self._has_undone_left:
                name = self._settings.interface
                self._journal.wait_for_last(lambda: link_state.tun_devices().get(name, False))
                self._journal.__enter__()
            self._has_undone_left = True

    def begin(self, _: messages.Begin) -> Answered:
        """Make the device. Raises RuntimeFailure, AskedToStop."""
        if self._switch is not None:
            raise Unasked("a second device")
        self.undo_left()
        self._settings = self._before = settings = prepared(self._settings)
        self._dns_before = DnsFiles.read()
        self._switch = KillSwitch(settings, self._journal)
        self._switch.__enter__()
        device = Device(settings, self._journal)
        device.inner_mtu.subscribe(self._others_mtu.note)
        self._device = device
        self._switch.remove_left()
        begun = Begun(
            index=device.index,
            offload=device.offload_max,
            fwmark=settings.fwmark,
            dns_before=tuple(self._dns_before),
        )
        return Answered(begun, tuple(map(os.dup, device.fds)))

    def watching(self) -> Iterator[Coroutine[None, None, None]]:
        """Yield what is to run beside, once, when there is a device."""
        if self._device is not None and self._switch is not None and not self._is_watched:
            self._is_watched = True
            yield HostMonitor(self._device, self.on_step).run()
            yield self._switch.run(self.on_step)

    def close(self, _: messages.Close | None = None) -> None:
        """Let the device go, and leave the kill switch where it is."""
        with self._mutex:
            self._is_closed = True
            device, self._device = self._device, None
            switch, self._switch = self._switch, None
        if device is not None:
            device.__exit__()
        if switch is not None:
            switch.__exit__()

    def end(self, _: messages.End | None = None) -> None:
        """Kill hooks that still run, and undo the journal, once. Raises RuntimeFailure."""
        self._hooks.close()
        with self._mutex:
            was_undone, self._is_undone = self._is_undone, True
        if not was_undone and (failures := self._journal.undo_all()):
            raise RuntimeFailure("; ".join(failures))

    # -- the device -----------------------------------------------------------------------------

    def push(self, asked: messages.Push) -> Changed:
        """Have what is pushed."""
        addresses, routes = self._checks.push(asked)
        outer, takes_all = map(checks.outer, asked.outer), asked.takes_all
        return self._changed(
            lambda: self._there.apply(addresses, routes, asked.mtu, outer, takes_all=takes_all)
        )

    def keep_out(self, asked: messages.KeepOut) -> None:
        """Keep our own packets, which go to these, out of the tunnel."""
        self._there.outer_changed([*map(checks.outer, asked.outer)])

    def route_behind(self, asked: messages.RouteBehind) -> None:
        """Have routes to what is behind peers of the directory."""
        asked_for, behind = self._checks.behind(asked.networks), self.behind()
        self._there.route_also([each for each in asked_for if each in behind])

    def change_device(self, asked: messages.ChangeDevice) -> Changed:
        """Go by what was read, or back."""
        settings, outer = self._settings_of(asked.fields), [*map(checks.outer, asked.outer)]
        return self._changed(lambda: self._there.change(settings, outer))

    def _changed(self, change: Callable[[], Applied]) -> Changed:
        applied = change()
        self._others_mtu.set_ours(self._there.inner_mtu, applied.mtu)
        return Changed(applied=applied)

    # -- DNS ------------------------------------------------------------------------------------

    def set_dns(self, asked: messages.SetDns) -> None:
        """Have names looked up at these servers."""
        self._checks.dns(asked)
        self._there.apply_dns(asked.servers, asked.domains)

    def judge_dns(self, asked: messages.JudgeDns) -> None:
        """Note whether they answer."""
        self._checks.client()
        self._there.name_servers.judge(asked.fault)

    # -- the kill switch ------------------------------------------------------------------------

    def follow_endpoints(self, asked: messages.FollowEndpoints) -> None:
        """Let our own packets go to these."""
        endpoints = self._checks.endpoints(asked.endpoints)
        self._kill_switch.follow(endpoints, self._there.wanted)

    def allow_lookups(self, asked: messages.AllowLookups) -> None:
        """Let our own lookups of names go to these servers, if they are this host's."""
        self._checks.client()
        known = {*DnsFiles.read().all_servers(), *self._dns_before.servers()}
        # One that is not any more has left since it was read, and the next lookup asks anew.
        self._kill_switch.allow_lookups([each for each in asked.servers if each in known])

    def turn_kill_switch(self, asked: messages.TurnKillSwitch) -> None:
        """Have it as was read, or as it was."""
        endpoints = self._checks.endpoints(asked.endpoints)
        self._kill_switch.turn(self._settings_of(asked.fields), endpoints, self._there.wanted)

    # -- hooks ----------------------------------------------------------------------------------

    def run_hook(self, asked: messages.RunHook) -> None:
        """Run a command of the settings."""
        pushed = () if self._device is None else self._device.wanted.pushed_addresses
        self._hooks.run(asked, self._settings, (*self._settings.addresses, *pushed))

    # -- settings -------------------------------------------------------------------------------

    def reread(self, _: messages.Reread) -> SettingsRead:
        """Read them again. Raises ConfigError."""
        if self._reread is None:
            raise Unasked("settings that are not of a file")
        remarks: list[str] = []
        read = self._reread(remarks.append)
        self._before, self._read = self._settings, read
        return SettingsRead(settings=pickle.dumps(read), remarks=tuple(remarks))

    def adopt(self, asked: messages.Adopt) -> None:
        """Check by these from now on."""
        before, settings = self._settings, self._settings_of(asked.fields)
        self._settings = settings
        self._checks.adopt(settings)
        if settings.log != before.log:
            log.configure(*settings.log)

    def set_quiet(self, asked: messages.SetQuiet) -> None:
        """Look less often, or as ever."""
        PACE.is_quiet = asked.is_quiet

    def _settings_of(self, fields: Iterable[str]) -> Settings:
        """Return the settings of before the reload, with these of its fields."""
        return replace(self._before, **{name: getattr(self._read, name) for name in fields})


class OthersMtu:
    """The MTU that another program has given the device; 0 where it is as we have set it."""

    def __init__(self) -> None:
        """Begin with ours."""
        self.n_bytes = 0
        self._ours_by = 0  # the thread that sets ours

    def set_ours(self, inner_mtu: InnerMtu, n_bytes: int) -> None:
        """Set it, at the gateway's request, which knows it then."""
        self._ours_by, self.n_bytes = threading.get_ident(), 0
        inner_mtu.change(n_bytes)
        self._ours_by = 0

    def note(self, n_bytes: int) -> None:
        """Take note of one that was set, by us or by the monitor."""
        if threading.get_ident() != self._ours_by:
            self.n_bytes = n_bytes
