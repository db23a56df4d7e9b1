"""How many lanes there are: as many as are asked for, or as many as this machine has work for."""

from __future__ import annotations

import os
from typing import Final

from fastun.config.vocabulary import Mode, Wire
from fastun.errors import ConfigError, quote
from fastun.native import LANES_MAX

#: In one direction two workers of a lane are busy, so half as many lanes as cores keep all of them.
_CORES_A_LANE: Final = 2

#: With fewer cores one lane's four workers, and what they serve, have all of them already.
_SMALL_CORES: Final = 4


def lanes(value: int | str, where: str, *, mode: Mode, wire: Wire) -> int:
    """Return how many there are. ConfigError."""
    if value == "auto":
        return of_cores(len(os.sched_getaffinity(0))) if _has_several(mode, wire) else 1
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    if not isinstance(value, int):
        raise ConfigError(f"{where}: {quote(value)} is not a number of lanes; use 1 or 'auto'")
    if not 1 <= value <= LANES_MAX:
        raise ConfigError(f"{where}: {value} is out of range (1-{LANES_MAX}, or 'auto')")
    if value > 1 and not _has_several(mode, wire):
        what = "a TAP device" if mode == "tap" else f"the {wire} wire"
        raise ConfigError(f"{where}: {what} has 1 lane only; use 1 or 'auto'")
    return value


def of_cores(n_cores: int) -> int:
    """Return how many lanes are of use on a machine."""
    return min(n_cores // _CORES_A_LANE, LANES_MAX) if n_cores >= _SMALL_CORES else 1


def _has_several(mode: Mode, wire: Wire) -> bool:
    """Return whether peers can be in different lanes.

    A switch has one table of addresses with one writer, and the other wires one connection.
    """
    return mode == "tun" and wire == "wireguard"
