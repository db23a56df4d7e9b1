"""`[hooks]`: programs that a gateway runs when it comes up and goes down, and when its peers do.

Of a wg-quick file, its shell commands, at the moments that wg-quick(8) runs them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fastun import private_file
from fastun.config.ranges import HOOK_TIMEOUTS_S
from fastun.config.wg_quick import WgQuickDocument
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.document import HooksSection
    from fastun.config.sources import Sources

# A program and its arguments. No shell reads them.
Command = tuple[str, ...]

EVENTS: Final = ("up", "down", "peer_up", "peer_down")

# The keys of a wg-quick file, and the events that they are for.
_OF_WG_QUICK: Final = {
    "PreUp": "pre_up",
    "PostUp": "up",
    "PreDown": "down",
    "PostDown": "post_down",
}
# wg-quick has no limit; this one is long enough to wait for a network, as such commands do.
_WG_QUICK_TIMEOUT_S: Final = 30.0
_NAME_IN_SHELL = re.compile("[A-Za-z0-9_=+.-]+")  # as wg-quick(8) allows

_ARGUMENTS_MAX: Final = 64
_ARGUMENTS_BYTES_MAX: Final = 16 << 10

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_OTHERS_WRITE: Final = stat.S_IWOTH


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What is run at each event, in order. The first word of each is a path.

    `timeout_s` is for each; then it is killed. `pre_up` and `post_down`, when there is no device,
    are of a wg-quick file, of which a start ends that fails: `file` is that file. `save_to` is it
    where it is to have the peers' endpoints at the end.
    """

    pre_up: tuple[Command, ...] = ()
    up: tuple[Command, ...] = ()
    down: tuple[Command, ...] = ()
    post_down: tuple[Command, ...] = ()
    peer_up: tuple[Command, ...] = ()
    peer_down: tuple[Command, ...] = ()
    timeout_s: float = 10.0
    file: Path | None = None
    save_to: Path | None = None

    def of(self, event: str) -> tuple[Command, ...]:
        """Return what is run at an event, one of the fields."""
        commands: tuple[Command, ...] = getattr(self, event)
        return commands

    @property
    def are_there(self) -> bool:
        """Whether there is any."""
        return any(self.of(event) for event in (*EVENTS, *_OF_WG_QUICK.values()))


def search_path() -> str:
    """Return where programs are looked for: PATH, and sbin, which is not on every PATH."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))


def hooks(sources: Sources, interface: str) -> Hooks:
    """Return what is run; raise ConfigError."""
    if isinstance(sources.document, WgQuickDocument):
        return _of_wg_quick(sources, sources.document, interface)
    section = sources.document.hooks
    if section is None:
        return Hooks()
    smallest, largest = HOOK_TIMEOUTS_S
    if not smallest <= section.timeout <= largest:
        raise ConfigError(
            f"{sources.where('hooks.timeout')}: {section.timeout:g} s is out of range"
            f" ({smallest:g}-{largest:g})"
        )
    found = Hooks(
        up=_commands(sources, section, "up"),
        down=_commands(sources, section, "down"),
        peer_up=_commands(sources, section, "peer_up"),
        peer_down=_commands(sources, section, "peer_down"),
        timeout_s=section.timeout,
    )
    if found.are_there and sources.path is not None:
        _check_owned(sources.path, f"{sources.path}: runs programs and")
    return found


def _of_wg_quick(sources: Sources, document: WgQuickDocument, interface: str) -> Hooks:
    path = None if sources.path is None else sources.path.absolute()
    by_event: dict[str, list[Command]] = {event: [] for event in _OF_WG_QUICK.values()}
    shell = shutil.which("bash", path=search_path()) or "/bin/sh"
    for command in document.commands:
        if not sources.options.hooks:
            raise ConfigError(
                f"{command.where}: a shell command; allow it with --hooks, or remove it"
            )
        if not _NAME_IN_SHELL.fullmatch(interface):
            raise ConfigError(
                f"{command.where}: the interface name {quote(interface)} cannot be part of a shell"
                " command; use letters, digits, - . _"
            )
        if "\0" in command.text:
            raise ConfigError(f"{command.where}: contains a NUL; remove it")
        text = command.text.replace("%i", interface)
        by_event[_OF_WG_QUICK[command.key]].append((shell, "-c", text))
    if document.commands and path is not None:
        _check_owned(path, f"{path}: runs programs and")
    return Hooks(
        pre_up=tuple(by_event["pre_up"]),
        up=tuple(by_event["up"]),
        down=tuple(by_event["down"]),
        post_down=tuple(by_event["post_down"]),
        timeout_s=_WG_QUICK_TIMEOUT_S,
        file=path if document.commands else None,
        save_to=path if document.saves else None,
    )


def key_of(event: str) -> str:
    """Return the key of a wg-quick file for an event."""
    return next(key for key, each in _OF_WG_QUICK.items() if each == event)


def _commands(sources: Sources, section: HooksSection, event: str) -> tuple[Command, ...]:
    words: Command | None = getattr(section, event)
    if words is None:
        return ()
    place = sources.where(f"hooks.{event}")
    if not words or not words[0]:
        raise ConfigError(
            f"{place}: names no program; write [PROGRAM, ARGUMENT, ...], or remove it"
        )
    n_bytes = sum(len(os.fsencode(word)) for word in words)
    if len(words) > _ARGUMENTS_MAX or n_bytes > _ARGUMENTS_BYTES_MAX:
        raise ConfigError(
            f"{place}: {len(words)} words of {n_bytes} bytes (maximum {_ARGUMENTS_MAX} and"
            f" {_ARGUMENTS_BYTES_MAX}); write a script"
        )
    if any("\0" in word for word in words):
        raise ConfigError(f"{place}: contains a NUL; remove it")
    return ((_program(words[0], place), *words[1:]),)


def _program(name: str, place: str) -> str:
    """Return the path of a program that can be run."""
    if "/" not in name:
        found = shutil.which(name, path=search_path())
        if found is None:
            raise ConfigError(
                f"{place}: program {quote(name)} not found; install it, or give a path"
            )
        name = str(Path(found).absolute())
    path = Path(name)
    if not path.is_absolute():
        raise ConfigError(f"{place}: {quote(name)} is a relative path; give it from / on")
    if not path.is_file():
        why = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(f"{place}: {quote(name)} {why}; give the path of a program")
    if not os.access(path, os.X_OK):
        raise ConfigError(
            f"{place}: {quote(name)} is not executable; run: chmod +x {shlex.quote(name)}"
        )
    _check_owned(path, f"{place}: {quote(name)}")
    return name


def _check_owned(path: Path, name: str) -> None:
    """Raise ConfigError where others can write or replace a file that decides what we run."""
    target = path.resolve()
    status = target.stat()
    if status.st_uid not in private_file.own_users():
        raise ConfigError(
            f"{name} belongs to another user; run: chown {os.geteuid()} {shlex.quote(str(target))}"
        )
    for each in dict.fromkeys((target, path.absolute().parent, target.parent)):
        mode = each.stat().st_mode
        if mode & _OTHERS_WRITE and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            raise ConfigError(
                f"{name} can be changed by every user; run: chmod o-w {shlex.quote(str(each))}"
            )
