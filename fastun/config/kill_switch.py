"""The kill switch: whether anything may leave beside the tunnel of `connect`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.config.sources import Sources

# What nft takes literally: it reads * as a wildcard, @ as a set. The device does not exist yet, so
# rules cannot have its index instead.
_NAME_IN_RULES: Final = re.compile(r"[A-Za-z0-9_.=+-]+")


def kill_switch(sources: Sources, interface: str) -> bool:
    """Return whether there is one, for the tunnel ``interface``; raise ConfigError."""
    in_file = sources.document.interface.kill_switch
    if not (in_file or sources.options.kill_switch):
        return False
    if not _NAME_IN_RULES.fullmatch(interface):
        where = sources.where("interface.kill_switch") if in_file else "--kill-switch"
        raise ConfigError(
            f"{where}: nftables cannot name the interface {quote(interface)}; choose another name"
            " with --interface, of letters, digits and _ . = + -"
        )
    return True
