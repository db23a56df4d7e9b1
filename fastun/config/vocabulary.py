"""The words that a configuration may use, as types, and as tuples for whatever lists them."""

from typing import Final, Literal, TypeVar, get_args

from fastun.errors import ConfigError, quote
from fastun.vocabulary import EndpointOrder, LogFormat, LogLevel, Mode, Role, Wire

__all__ = [
    "EndpointOrder",
    "LogFormat",
    "LogLevel",
    "Mode",
    "Role",
    "Wire",
]  # of others, and all that follows

# "auto": routes to what is behind the peers, a default route apart from the main table, as
# wg-quick(8) does. "off": only routes that are pushed. A number: all of them in that table. "all":
# as "auto", and everything else as well.
Table = int | Literal["auto", "off", "all"]

# Whether to drop packets for the device's addresses that arrive on another interface. "auto": if a
# default route leads into the tunnel and the host does not forward.
StrongHost = bool | Literal["auto"]

# What may leave this host beside the tunnel: all of it, nothing, or what goes to the private
# networks that the host is in.
KillSwitch = Literal["off", "on", "lan"]

# What a client may apply of what its server pushes.
Accept = Literal["addresses", "routes", "default", "dns", "mtu", "keepalive"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
WIRES: Final[tuple[Wire, ...]] = get_args(Wire)
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)
LOG_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
ACCEPTABLE: Final[tuple[Accept, ...]] = get_args(Accept)
ENDPOINT_ORDERS: Final[tuple[EndpointOrder, ...]] = get_args(EndpointOrder)

_Choice = TypeVar("_Choice", bound=str)


def one_of(choices: tuple[_Choice, ...], value: str, where: str) -> _Choice:
    """Return the value that is one of some words; raise ConfigError."""
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigError(f"{where}: {quote(value)} is not one of {', '.join(choices)}")
