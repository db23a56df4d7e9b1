"""The options that several commands have in common, with the defaults of the configuration."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastun.command.completion import interface_names, peer_names
from fastun.config import document, interface, settings
from fastun.config.sections.base import summary
from fastun.errors import quote


class _PathGiven(click.Path):
    """A path. An empty one, as of a variable that is not set, would be the directory of now."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or refuse it."""
        if value == "":
            self.fail("is empty; give a path", param, ctx)
        return super().convert(value, param, ctx)


class _DirectoryGiven(_PathGiven):
    """A directory, which need not be there yet."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or refuse what is there and is something else."""
        path = super().convert(value, param, ctx)
        if os.path.exists(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112 (may raise)
            self.fail(f"{quote(str(path))} is not a directory; give one", param, ctx)
        return path


class _GatewayGiven(click.types.StringParamType):
    """An interface. An empty one, as of a variable that is not set, would be whichever runs."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, or refuse it."""
        if value == "":
            self.fail("is empty; give the name of an interface, or leave it out", param, ctx)
        return super().convert(value, param, ctx)


# Not readable: what reads it says more of what is wrong, and doctor goes on without.
PATH = _PathGiven(path_type=Path, readable=False)
DIRECTORY = _DirectoryGiven(path_type=Path, readable=False)
GATEWAY = _GatewayGiven()
_OPTIONS = settings.Options()
_INTERFACE = document.InterfaceSection()
_METRICS = document.MetricsSection()
_LOG = document.LogSection()


class NumberRange(click.FloatRange):
    """A range of numbers. Of "nan" no comparison is true, so it would be in any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number that is said, or refuse it."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid float range.", param, ctx)
        return number


def or_else(text: str, default: object) -> str:
    """Return the help of an option that overrides a field; `default` is the field's."""
    return f"{text}  [default: {default}]"


def _about(field: str) -> str:
    return summary(document.InterfaceSection, field)


state_option = click.option(
    "--state",
    type=DIRECTORY,
    metavar="DIR",
    default=_OPTIONS.state,
    show_default=True,
    help="Directory for keys and peers.",
)
run_dir_option = click.option(
    "--run-dir",
    type=DIRECTORY,
    metavar="DIR",
    default=_OPTIONS.run_dir,
    show_default=True,
    help="Directory for the control socket.",
)
gateway_option = click.option(
    "-i",
    "--interface",
    type=GATEWAY,
    metavar="NAME",
    shell_complete=interface_names,
    help="Interface of the gateway, if more than one is running.",
)
# A peer that is there; `peer add` makes one.
peer_argument = click.argument("name", shell_complete=peer_names)

# Each name here is a field of settings.Options.
_TUNNEL_OPTIONS = (
    click.option(
        "-c",
        "--config",
        type=PATH,
        metavar="FILE",
        help="Configuration file, TOML or wg-quick (.conf); options override it.",
    ),
    click.option(
        "-i",
        "--interface",
        metavar="NAME",
        help=or_else(_about("name"), _INTERFACE.name),
    ),
    click.option(
        "--mode",
        type=click.Choice(settings.MODES),
        help=or_else(_about("mode"), _INTERFACE.mode),
    ),
    click.option(
        "--address",
        multiple=True,
        metavar="CIDR",
        help=or_else(
            f"{_about('address')} Repeatable.",
            f"{' '.join(settings.DEFAULT_SERVER_ADDRESSES)} for serve on the wireguard wire,"
            " else none",
        ),
    ),
    click.option(
        "--mtu",
        type=int,
        metavar="BYTES",
        help=or_else(
            _about("mtu"),
            f"{interface.UDP_MTU} where a link can be UDP, else {interface.STREAM_MTU}; TAP:"
            f" {interface.STREAM_MTU}",
        ),
    ),
    click.option(
        "--wire",
        type=click.Choice(settings.WIRES),
        help=or_else(
            _about("wire"),
            _INTERFACE.wire,
        ),
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Allow a wire without encryption: anyone on the path can read and inject.",
    ),
    click.option(
        "--metrics",
        metavar="HOST:PORT|off",
        help=or_else(summary(document.MetricsSection, "listen"), _METRICS.listen),
    ),
    click.option(
        "--lanes",
        metavar="N|auto",
        help=or_else(
            _about("lanes"),
            _INTERFACE.lanes,
        ),
    ),
    click.option(
        "--forward",
        is_flag=True,
        help="Forward between peers and the networks of this host.",
    ),
    click.option(
        "--masquerade",
        is_flag=True,
        help="With --forward: NAT the peers' packets to this host's address, so replies come back.",
    ),
    click.option(
        "--hooks",
        is_flag=True,
        help="Run the shell commands in a wg-quick file: PreUp, PostUp, PreDown, PostDown.",
    ),
    state_option,
    run_dir_option,
    click.option(
        "--log-format",
        type=click.Choice(settings.LOG_FORMATS),
        help=or_else(summary(document.LogSection, "format"), _LOG.format),
    ),
    click.option("-v", "--verbose", count=True, help="Also log debug events."),
)


# All but the first are fields of settings.Options as well.
_CONNECT_OPTIONS = (
    click.option(
        "--check",
        is_flag=True,
        help="Do not connect; check names, routes, reachability, keys and clock, then exit.",
    ),
    click.option(
        "--all",
        "all_traffic",
        is_flag=True,
        help="Send all traffic through the tunnel, IPv4 and IPv6, and use the server's DNS.",
    ),
    click.option(
        "--allow-lan",
        is_flag=True,
        help=_about("allow_lan"),
    ),
    click.option(
        "--kill-switch",
        is_flag=True,
        help=_about("kill_switch"),
    ),
)


def connect_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options of connect alone."""
    for option in reversed(_CONNECT_OPTIONS):
        command = option(command)
    return command


def tunnel_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that serve and connect have in common."""
    for option in reversed(_TUNNEL_OPTIONS):
        command = option(command)
    return command
