"""`[hooks]`: programs that a gateway runs when it comes up and goes down, and when its peers do."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun import private_file
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.document import HooksSection
    from fastun.config.sources import Sources

# A program and its arguments. No shell reads them.
Command = tuple[str, ...]

EVENTS: Final = ("up", "down", "peer_up", "peer_down")

_ARGUMENTS_MAX: Final = 64
_ARGUMENTS_BYTES_MAX: Final = 16 << 10
# Long enough for a look-up of a name that fails; at the end fastun waits as long at most.
_TIMEOUTS_S: Final = (0.1, 300.0)

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_OTHERS_WRITE: Final = stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What is run at each event, in order. The first word of each is a path.

    `timeout_s` is for each; then it is killed.
    """

    up: tuple[Command, ...] = ()
    down: tuple[Command, ...] = ()
    peer_up: tuple[Command, ...] = ()
    peer_down: tuple[Command, ...] = ()
    timeout_s: float = 10.0

    def of(self, event: str) -> tuple[Command, ...]:
        """Return what is run at an event, one of the fields."""
        commands: tuple[Command, ...] = getattr(self, event)
        return commands

    @property
    def are_there(self) -> bool:
        """Whether there is any."""
        return any(self.of(event) for event in EVENTS)


def search_path() -> str:
    """Return where programs are looked for: PATH, and sbin, which is not on every PATH."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))


def hooks(sources: Sources) -> Hooks:
    """Return what is run; raise ConfigError."""
    section = sources.document.hooks
    if section is None:
        return Hooks()
    smallest, largest = _TIMEOUTS_S
    if not smallest <= section.timeout <= largest:
        raise ConfigError(
            f"{sources.where('hooks.timeout')}: {section.timeout:g} s is out of range"
            f" ({smallest:g}-{largest:g})"
        )
    found = Hooks(
        **{event: _commands(sources, section, event) for event in EVENTS},
        timeout_s=section.timeout,
    )
    if found.are_there and sources.path is not None:
        _check_owned(sources.path, f"{sources.path}: runs programs and")
    return found


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
    if status.st_uid not in private_file.trusted_users():
        raise ConfigError(
            f"{name} belongs to another user; run: chown {os.geteuid()} {shlex.quote(str(target))}"
        )
    for each in dict.fromkeys((target, path.absolute().parent, target.parent)):
        mode = each.stat().st_mode
        if mode & _OTHERS_WRITE and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            raise ConfigError(
                f"{name} can be changed by every user; run: chmod o-w {shlex.quote(str(each))}"
            )
