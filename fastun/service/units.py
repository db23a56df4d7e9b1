"""The files that make a service of fastun, as texts by their paths."""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import fastun
from fastun import import_paths, service_user
from fastun.errors import RuntimeFailure, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastun.vocabulary import Role

SETTINGS: Final = Path("/etc/fastun")

ROLES: Final[tuple[Role, ...]] = ("serve", "connect")
_DESCRIPTIONS: Final[dict[Role, str]] = {"serve": "fastun server", "connect": "fastun tunnel"}
# What waits for the network to be online waits for a tunnel, too, and for its kill switch.
_ORDERS: Final[dict[Role, str]] = {
    "serve": "",
    "connect": "Before=network-online.target\n",
}
# As connect has more often. All else in /etc belongs to root, so that the service may not write it.
_RESOLV_CONF: Final = "/etc/resolv.conf"
_BEFORE: Final = f"""\
# Where no program manages {_RESOLV_CONF}, a tunnel with DNS servers writes them there.
ExecStartPre=+-/bin/sh -c 'if [ -f {_RESOLV_CONF} ] && [ ! -L {_RESOLV_CONF} ]; \
then chgrp {service_user.NAME} {_RESOLV_CONF} && chmod g+w {_RESOLV_CONF}; fi'
"""

# The first line of what `fastun install-service` has written, by which it knows its own.
MARK: Final = "# Written by 'fastun install-service'; changes belong in drop-ins."
_OF_PACKAGE: Final = "# From fastun's package."

# Where the units' sandbox lets nothing be seen (ProtectHome, PrivateTmp).
_HIDDEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108

_SIGNS: Final = set(" %$\"'\\:;")  # that a unit file takes for its own


class Installation(NamedTuple):
    """How a service runs fastun: the command, and directories that its sandbox would hide."""

    command: str
    hidden: tuple[Path, ...] = ()


class Places(NamedTuple):
    """Where the files go: of one host, or of a distribution's package."""

    units: Path
    sysusers: Path
    tmpfiles: Path
    polkit: Path
    mark: str


OF_HOST: Final = Places(
    Path("/etc/systemd/system"),
    Path("/etc/sysusers.d"),
    Path("/etc/tmpfiles.d"),
    Path("/etc/polkit-1/rules.d"),
    MARK,
)
OF_PACKAGE: Final = Places(
    Path("/usr/lib/systemd/system"),
    Path("/usr/lib/sysusers.d"),
    Path("/usr/lib/tmpfiles.d"),
    Path("/usr/share/polkit-1/rules.d"),
    _OF_PACKAGE,
)


def unit_name(role: Role, instance: str = "") -> str:
    """Return the name of a unit, the template's without ``instance``."""
    return f"fastun-{role}@{instance}.service"


def texts(installation: Installation, places: Places) -> dict[Path, str]:
    """Return what is in each file."""
    units = {
        places.units / unit_name(role): _unit(role, installation, places.mark) for role in ROLES
    }
    return units | {
        places.sysusers / "fastun.conf": f"{places.mark}\n{_read('sysusers')}",
        places.tmpfiles / "fastun.conf": f"{places.mark}\n{_read('tmpfiles')}",
        places.polkit / "50-fastun.rules": f"//{places.mark[1:]}\n{_read('rules')}",
    }


def of_old_polkit(directory: Path) -> dict[Path, str]:
    """Return the rule for a host whose polkit looks in ``directory``; nothing for any other."""
    text = f"{MARK}\n{_read('pkla')}"
    return {directory / "fastun.pkla": text} if directory.is_dir() else {}


def _unit(role: Role, installation: Installation, mark: str) -> str:
    home = ["ProtectHome=yes"]
    if installation.hidden:
        paths = " ".join(str(each) for each in installation.hidden)
        home = ["ProtectHome=tmpfs", f"BindReadOnlyPaths={paths}"]
    values = {
        "@ORIGIN@": mark.removeprefix("# "),
        "@DESCRIPTION@": _DESCRIPTIONS[role],
        "@ORDER@": _ORDERS[role],
        "@BEFORE@": _BEFORE if role == "connect" else "",
        "@RESOLVER@": " /etc" if role == "connect" else "",
        "@ROLE@": role,
        "@USER@": service_user.NAME,
        "@COMMAND@": installation.command,
        "@INSTALLATION@": "\n".join(home),
    }
    text = _read("service.in")
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _read(suffix: str) -> str:
    file = importlib.resources.files(fastun) / "service" / f"fastun.{suffix}"
    return file.read_text(encoding="utf-8")


# -- this installation ------------------------------------------------------------------------


def this_installation() -> Installation:
    """Return how a service runs the fastun that runs this. Raises RuntimeFailure.

    Of an installation in a home, as pipx makes it, what is imported is shown to the service.
    """
    program = Path(sys.executable).with_name("fastun")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "fastun"]
    needed = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    needed.update(map(Path, import_paths.directories()))
    needed.update(each.resolve() for each in [*needed])
    hidden = [each for each in _outermost(needed) if _is_below(each, _HIDDEN)]
    for each in needed - set(hidden):
        if not _is_below(each, hidden) and (closed := _closed(each)):
            raise RuntimeFailure(
                f"fastun is installed below {quote(str(closed))}, which only its owner may enter;"
                f" run 'chmod a+x {closed}', or install fastun elsewhere, as in /opt/fastun"
            )
    words = [*command, *map(str, hidden)]
    if odd := next((word for word in words if not _is_plain(word)), None):
        raise RuntimeFailure(
            f"fastun is installed in {quote(odd)}, which a unit cannot name;"
            " install it in a path without spaces and signs"
        )
    return Installation(" ".join(command), tuple(hidden))


def _outermost(paths: Iterable[Path]) -> Iterator[Path]:
    kept: list[Path] = []
    for path in sorted(paths):  # what is below another one comes after it
        if not _is_below(path, kept):
            kept.append(path)
            yield path


def _is_below(path: Path, others: Iterable[Path]) -> bool:
    return any(path.is_relative_to(each) for each in others)


def _closed(path: Path) -> Path | None:
    """Return the directory on the way to ``path`` that other users may not enter."""
    ways = (path, *path.parents)
    return next((each for each in reversed(ways) if not each.stat().st_mode & 0o001), None)


def _is_plain(word: str) -> bool:
    return word.isprintable() and not set(word) & _SIGNS
