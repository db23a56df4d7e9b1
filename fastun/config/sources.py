"""Where a value was written: on the command line, in the file, or nowhere but in the defaults."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

from fastun.config import wg_quick
from fastun.config.document import Document, PeerSection

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, unchecked. None or empty: the file or its defaults decide."""

    config: Path | None = None
    interface: str | None = None
    mode: str | None = None
    address: tuple[str, ...] = ()
    mtu: int | None = None
    listen: tuple[str, ...] = ()
    wire: str | None = None
    insecure: bool = False
    metrics: str | None = None
    lanes: str | None = None
    all_traffic: bool = False
    allow_lan: bool = False
    forward: bool = False
    masquerade: bool = False
    hooks: bool = False
    kill_switch: bool = False
    state: Path = Path("/var/lib/fastun")
    run_dir: Path = Path("/run/fastun")
    log_format: str | None = None
    verbose: int = 0


class Sources(msgspec.Struct, frozen=True, dict=True):  # of cached properties
    """The places where a value can have been written. `url` is what `connect` dials."""

    options: Options
    url: str | None
    document: Document
    path: Path | None

    def effective(
        self, option: _Value | None, flag: str, value: _Value, field: str
    ) -> tuple[_Value, str]:
        """Return the value that counts, and the place where it can be changed."""
        if option is None and self.path:
            return value, self.where(field)
        return value if option is None else option, flag

    def where(self, field: str) -> str:
        """Return the place of a field of the file."""
        return f"{self.path}: {wg_quick.place(field) if self.is_wg_quick else field}"

    @cached_property
    def _enabled(self) -> tuple[tuple[int, PeerSection], ...]:
        sections = enumerate(self.document.peer)
        return tuple((number, section) for number, section in sections if section.enabled)

    @cached_property
    def peers(self) -> tuple[PeerSection, ...]:
        """The `[[peer]]` sections that are enabled."""
        return tuple(section for _, section in self._enabled)

    def in_peer(self, index: int) -> Callable[[str], str]:
        """Return what makes the places of the fields of `peers[index]`."""
        number, _ = self._enabled[index]
        peer = "peer" if len(self.document.peer) == 1 else f"peer[{number}]"
        return lambda field: self.where(f"{peer}.{field}")

    @property
    def is_wg_quick(self) -> bool:
        """Whether the file is wg-quick's."""
        return wg_quick.is_wg_quick(self.path)

    @property
    def directory(self) -> Path:
        """What paths in the file are relative to."""
        return self.path.parent if self.path else Path()
