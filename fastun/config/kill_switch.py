"""The kill switch: whether anything may leave beside the tunnel of `connect`, and what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.sources import Sources
    from fastun.config.vocabulary import KillSwitch

_LAN: Final = "lan"

# What nft takes literally: it reads * as a wildcard, @ as a set. The device does not exist yet, so
# rules cannot have its index instead.
_NAME_IN_RULES: Final = re.compile(r"[A-Za-z0-9_.=+-]+")


def kill_switch(sources: Sources, interface: str) -> KillSwitch:
    """Return what may leave this host beside the tunnel ``interface``; raise ConfigError.

    The option turns it on, and leaves a file that allows the LAN as it is.
    """
    value, where = sources.document.interface.kill_switch, sources.where("interface.kill_switch")
    if isinstance(value, str) and value != _LAN:
        raise ConfigError(f'{where}: {quote(value)} is not one of true, false, "lan"')
    if not value:
        value, where = bool(sources.options.kill_switch), "--kill-switch"
    if value and not _NAME_IN_RULES.fullmatch(interface):
        raise ConfigError(
            f"{where}: nftables cannot name the interface {quote(interface)}; choose another name"
            " with --interface, of letters, digits and _ . = + -"
        )
    return _LAN if value == _LAN else "on" if value else "off"


def refuse_kill_switch(sources: Sources) -> None:
    """Raise ConfigError for what only `connect` can have."""
    if sources.document.interface.kill_switch:
        place = sources.where("interface.kill_switch")
        raise ConfigError(f"{place}: 'kill_switch' applies only to connect; remove it")
