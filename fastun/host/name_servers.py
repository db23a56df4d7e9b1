"""The DNS servers of a device: given to the program that manages this host's resolver.

resolvconf(8), of openresolv or Debian, or else resolvectl(1). While the device is there, all names
are looked up through it; or, with systemd-resolved and domains behind a ~, those inside them.
Whatever goes wrong here is a warning with the addresses, for a person to set by hand: a tunnel that
carries packets is not ended for its names. So is a result that is another (resolver.py).
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from fastun import ending, log
from fastun.errors import RuntimeFailure, quote
from fastun.host import programs, resolver
from fastun.host.changes import Dns
from fastun.host.programs import ProgramRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.host.journal import Journal

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
        self._is: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._change: Dns | None = None
        self._log = log.get("dns")

    @property
    def servers(self) -> tuple[str, ...]:
        """Those that are set. Any thread."""
        return self._is[0]

    def set(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        """Have all names looked up at `servers`, short ones in `domains` as well.

        Raises RuntimeFailure for a word that must not reach a resolver, and AskedToStop.
        """
        if not servers or (servers, domains) == self._is:
            return
        _check(_INTERFACE, [self._interface])
        _check(_SERVER, servers)
        _check(_DOMAIN, domains)
        self._is = servers, domains
        try:
            wrong = self._tell(servers, domains)
        except RuntimeFailure as error:
            ending.check()
            self._log.warning("cannot set DNS servers", servers=" ".join(servers), error=str(error))
            return
        if wrong is None:
            self._log.info("DNS servers set", servers=" ".join(servers))
        else:
            self._log.warning(
                "DNS servers set, but others are asked first",
                servers=" ".join(servers),
                error=wrong,
            )

    def unset(self) -> None:
        """Restore name lookups to the state before the last `set`; a failure is a warning."""
        change, self._change, self._is = self._change, None, ((), ())
        if change is None:
            return
        try:
            change.undo(change.limit_s, owner_died=False)
        except RuntimeFailure as error:
            self._log.warning("could not restore DNS settings", error=str(error))
            return  # the end tries again
        self._journal.strike(change)

    def _tell(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> str | None:
        """Give the resolver servers and domains; return what is wrong with the result."""
        program = resolver.program()
        if program is None:
            raise RuntimeFailure(
                "neither resolvconf nor resolvectl is installed; install one of them"
            )
        with self._changing(program) as change:
            if program == "resolvconf":
                self._tell_resolvconf(change.record, servers, domains)
            else:
                _tell_resolved(self._interface, servers, domains)
        return resolver.what_is_wrong(program, self._interface, servers)

    def _tell_resolvconf(
        self, record: str, servers: tuple[str, ...], domains: tuple[str, ...]
    ) -> None:
        searched = [name for name in domains if not name.startswith(resolver.ROUTING_ONLY)]
        if len(searched) < len(set(domains) - {resolver.ALL_NAMES}):
            self._log.warning(
                "all names are looked up through the tunnel; a domain behind a ~ needs"
                " systemd-resolved",
                domains=" ".join(domains),
            )
        lines = [f"nameserver {server}" for server in servers]
        if searched:
            lines.append(f"search {' '.join(searched)}")
        text = "".join(f"{line}\n" for line in lines)
        _run("resolvconf", "-a", record, "-m", "0", "-x", stdin=text)

    @contextlib.contextmanager
    def _changing(self, program: resolver.Program) -> Iterator[Dns]:
        """Have the journal undo what a program is about to do, unless it refuses."""
        record = resolver.record_of(self._interface) if program == "resolvconf" else ""
        change = Dns(self._interface, program, record)
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


def _tell_resolved(interface: str, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
    _run("resolvectl", "dns", interface, *servers)
    if not any(name.startswith(resolver.ROUTING_ONLY) for name in domains):
        domains = (resolver.ALL_NAMES, *domains)
    _run("resolvectl", "domain", interface, *domains)


def _check(kind: re.Pattern[str], words: Iterable[str]) -> None:
    for word in words:
        if not kind.fullmatch(word):
            raise RuntimeFailure(f"DNS: {quote(word)} is not valid for a resolver")


def _run(*command: str, stdin: str = "") -> None:
    programs.run(command, stdin, limit_s=_LIMIT_S)
