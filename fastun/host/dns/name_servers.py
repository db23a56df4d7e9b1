"""The DNS servers of a device: given to the program that manages this host's resolver.

resolvconf(8), of openresolv or Debian, or else resolvectl(1). While the device is there, all names
are looked up through it; or, with systemd-resolved and domains behind a ~, those inside them.
Whatever goes wrong here is a warning with the addresses, for a person to set by hand: a tunnel that
carries packets is not ended for its names. So is a result that is another (resolver.py).
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import structs

from fastun import ending, log
from fastun.errors import RuntimeFailure, quote
from fastun.host import programs
from fastun.host.dns import resolv_conf, resolver
from fastun.host.dns.state import NOTHING, DnsState
from fastun.host.journal.changes import Dns, ResolvConf
from fastun.host.programs import ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.dns.resolver import Manager
    from fastun.host.journal.journal import Journal

# Set again so often in so many seconds; two programs that fight cost more than the names are worth.
_AGAIN_MAX: Final = 3
_AGAIN_S: Final = 60.0

_LIMIT_S = 10.0  # They restart what caches names, on slow machines too.

# openresolv is a shell script that evals its input, and runs as root. So whatever was checked
# before, here no word passes that could be more than an address, a domain, or a name, or that could
# be an option.
_SERVER = re.compile("[0-9A-Fa-f.:]{2,45}(%[A-Za-z0-9._-]{1,15})?")
_DOMAIN = re.compile("(~?[A-Za-z0-9_][A-Za-z0-9._-]{0,253}|~[.])")
_INTERFACE = re.compile("[A-Za-z0-9_=+.][A-Za-z0-9_=+.-]{0,14}")  # As wg-quick(8) names them.


class NameServers:
    """What one device's DNS servers set to. Blocks: not on the event loop's thread."""

    def __init__(self, interface: str, journal: Journal) -> None:
        """Prepare; nothing is changed before `set`, and ``journal`` undoes it."""
        self._interface = interface
        self._journal = journal
        self._state = NOTHING
        self._change: Dns | ResolvConf | None = None
        self._set_again: deque[float] = deque(maxlen=_AGAIN_MAX)
        self._mutex = threading.Lock()
        self._log = log.get("dns")

    @property
    def state(self) -> DnsState:
        """What is set. Any thread."""
        return self._state

    def set(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        """Have all names looked up at `servers`, short ones in `domains` as well.

        Raises RuntimeFailure for a word that must not reach a resolver, and AskedToStop.
        """
        with self._mutex:
            if not servers or (servers, domains) == (self._state.servers, self._state.domains):
                return
            _check(_INTERFACE, [self._interface])
            _check(_SERVER, servers)
            _check(_DOMAIN, domains)
            manager = resolver.manager()
            if self._change is not None and manager != self._state.manager:
                self._unset()
            self._state = DnsState(servers, domains, manager)
            if wrong := self._give():
                self._state = structs.replace(self._state, fault=wrong)
                self._log.warning(
                    "DNS servers set, but others are asked first",
                    servers=" ".join(servers),
                    error=wrong,
                )
            elif not self._state.fault:
                self._log.info(
                    "DNS servers set", servers=" ".join(servers), by=resolver.WORDS[manager]
                )

    def unset(self) -> None:
        """Restore name lookups to the state before the last `set`; a failure is a warning."""
        with self._mutex:
            self._unset()

    def look(self) -> None:
        """Set again what another program has replaced, up to three times a minute."""
        with self._mutex:
            state, now = self._state, time.monotonic()
            if self._change is None or not _is_replaced(state, self._interface):
                return
            what = "another program has replaced the tunnel's DNS servers"
            servers = " ".join(state.servers)
            is_full = len(self._set_again) == _AGAIN_MAX and now - self._set_again[0] < _AGAIN_S
            self._state = structs.replace(state, fault=what if is_full else "")
            if is_full:
                if not state.fault:
                    self._log.warning(f"{what}; not set any more", servers=servers)
                return
            self._set_again.append(now)
            self._give()
            self._log.warning(f"{what}; set again", servers=servers)

    def judge(self, fault: str) -> None:
        """Note whether the servers answer: why not, or empty."""
        with self._mutex:
            self._state = structs.replace(self._state, fault=fault, is_checked=True)

    def _unset(self) -> None:
        change, self._change, self._state = self._change, None, NOTHING
        if change is None:
            return
        try:
            change.undo(change.limit_s, owner_died=False)
        except (RuntimeFailure, OSError) as error:
            self._log.warning("could not restore DNS settings", error=str(error))
            return  # the end tries again
        self._journal.strike(change)

    def _give(self) -> str:
        """Give the resolver servers and domains; return what is wrong with the result."""
        state = self._state
        if state.is_split and state.manager != "resolvectl":
            self._log.warning(
                "split DNS needs systemd-resolved, which this host does not use; all names are"
                " looked up through the tunnel",
                domains=" ".join(state.domains),
            )
        try:
            with self._changing(state.manager) as change:
                self._tell(state, change)
            self._state = structs.replace(state, signature=_signature(state, self._interface))
            return resolver.what_is_wrong(state.manager, self._interface, state.servers) or ""
        except RuntimeFailure as error:
            ending.check()
            servers = " ".join(state.servers)
            self._log.warning("cannot set DNS servers", servers=servers, error=str(error))
            self._state = structs.replace(self._state, fault=f"cannot be set: {error}")
            return ""

    def _tell(self, state: DnsState, change: Dns | ResolvConf) -> None:
        searched = [name for name in state.domains if not name.startswith(resolver.ROUTING_ONLY)]
        if isinstance(change, ResolvConf):
            resolv_conf.add(self._interface, state.servers, searched)
        elif change.program == "resolvectl":
            _tell_resolved(self._interface, state.servers, state.domains)
        else:
            lines = [f"nameserver {server}" for server in state.servers]
            if searched:
                lines.append(f"search {' '.join(searched)}")
            text = "".join(f"{line}\n" for line in lines)
            _run("resolvconf", "-a", change.record, "-m", "0", "-x", stdin=text)

    @contextlib.contextmanager
    def _changing(self, manager: Manager) -> Iterator[Dns | ResolvConf]:
        """Have the journal undo what is about to be done, unless it is refused."""
        change = self._change or self._change_by(manager)
        try:
            with self._journal.changing(change):
                yield change
            self._change = change
        except ProgramRefused:
            # It may be half done. If the undo command is refused as well, nothing was done.
            with contextlib.suppress(ProgramRefused):
                change.undo(change.limit_s, owner_died=False)
            self._journal.strike(change)
            raise

    def _change_by(self, manager: Manager) -> Dns | ResolvConf:
        if manager == "file":
            return ResolvConf(self._interface)
        record = resolver.record_of(self._interface) if manager == "resolvconf" else ""
        return Dns(self._interface, manager, record)


def _is_replaced(state: DnsState, interface: str) -> bool:
    """Return whether another program has changed what was set; a cheap look, most often."""
    if state.manager == "file":
        return not resolv_conf.is_first(interface, state.servers)
    if state.manager != "resolvectl" or _signature(state, interface) == state.signature:
        return False
    with contextlib.suppress(RuntimeFailure):
        has = _run("resolvectl", "dns", interface)
        return not resolver.has_server(has, state.servers[0])
    return False


def _signature(state: DnsState, interface: str) -> object:
    """Return what changes with systemd-resolved's settings of the interface."""
    return resolver.resolved_signature(interface) if state.manager == "resolvectl" else None


def _tell_resolved(interface: str, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
    _run("resolvectl", "dns", interface, *servers)
    if not any(name.startswith(resolver.ROUTING_ONLY) for name in domains):
        domains = (resolver.ALL_NAMES, *domains)
    _run("resolvectl", "domain", interface, *domains)


def _check(kind: re.Pattern[str], words: Iterable[str]) -> None:
    for word in words:
        if not kind.fullmatch(word):
            raise RuntimeFailure(f"DNS: {quote(word)} is not valid for a resolver")


def _run(*command: str, stdin: str = "") -> str:
    return programs.run(command, stdin, limit_s=_LIMIT_S)
