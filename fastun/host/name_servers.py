"""The DNS servers of a device: told to the program that this host's resolver is run by.

resolvconf(8), of openresolv, systemd or Debian, or resolvectl(1) where there is no other. While the
device is there, all names are looked up through it. Whatever goes wrong here is a warning with the
addresses, for a person to set by hand: a tunnel that carries packets is not ended for its names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from fastun import log
from fastun.errors import RuntimeFailure, quote

_TIMEOUT_S = 10.0  # They restart what caches names, on slow machines too.

# openresolv is a shell script that evals what it is told, and runs as root. So whatever was checked
# before, here no word passes that could be more than an address, a domain, or a name, or that could
# be an option.
_SERVER = re.compile("[0-9A-Fa-f.:]{2,45}(%[A-Za-z0-9._-]{1,15})?")
_DOMAIN = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,253}")
_INTERFACE = re.compile("[A-Za-z0-9_=+.][A-Za-z0-9_=+.-]{0,14}")  # As wg-quick(8) names them.


class NameServers:
    """What one device's DNS is set to. Blocks: not on the event loop's thread."""

    def __init__(self, interface: str) -> None:
        """Prepare; nothing is changed before `set`."""
        self._interface = interface
        self._is: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._undo: list[str] = []
        self._log = log.get("dns")

    def set(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        """Have all names looked up at `servers`, short ones in `domains` as well.

        Raises RuntimeFailure for a word that no resolver should be told.
        """
        if not servers or (servers, domains) == self._is:
            return
        _check(_INTERFACE, [self._interface])
        _check(_SERVER, servers)
        _check(_DOMAIN, domains)
        self._is = servers, domains
        lines = [f"nameserver {server}" for server in servers]
        if domains:
            lines.append(f"search {' '.join(domains)}")
        text = "".join(f"{line}\n" for line in lines)
        if shutil.which("resolvconf"):
            self._undo = ["resolvconf", "-d", self._interface, "-f"]
            done = _run(["resolvconf", "-a", self._interface, "-m", "0", "-x"], text)
        elif shutil.which("resolvectl"):
            self._undo = ["resolvectl", "revert", self._interface]
            # ~. is systemd-resolved's domain of all names.
            done = _run(["resolvectl", "dns", self._interface, *servers]) or _run(
                ["resolvectl", "domain", self._interface, "~.", *domains]
            )
        else:
            done = "this host has neither resolvconf nor resolvectl"
        if done:
            self._log.warning("DNS is not set", servers=" ".join(servers), error=done)
        else:
            self._log.info("DNS is set", servers=" ".join(servers))

    def unset(self) -> None:
        """Have names looked up as before; never raises."""
        self._is = ((), ())
        if self._undo:
            failed = _run(self._undo)
            self._undo = []
            if failed:
                self._log.warning("DNS is not as before", error=failed)


def _check(kind: re.Pattern[str], words: Iterable[str]) -> None:
    for word in words:
        if not kind.fullmatch(word):
            raise RuntimeFailure(f"DNS: {quote(word)} is nothing that a resolver could be told")


def _run(command: list[str], stdin: str = "") -> str:
    """Return what went wrong, empty when nothing."""
    try:
        subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        return f"{command[0]}: {said[-1] if said else f'exit code {error.returncode}'}"
    except subprocess.TimeoutExpired:
        return f"{command[0]}: not done within {_TIMEOUT_S:g} s"
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return ""
