"""``fastun disconnect``, as click shows it; disconnect.py does it."""

from pathlib import Path

import click

from fastun.command.completion import interface_names
from fastun.command.options import run_dir_option


@click.command()
@click.option(
    "-i",
    "--interface",
    metavar="NAME",
    shell_complete=interface_names,
    help="Interface of the client, where more than one is running.",
)
@run_dir_option
def disconnect(interface: str | None, run_dir: Path) -> None:
    """End 'fastun connect', and remove its kill switch.

    Also removes a kill switch whose fastun is not running any more: after a stop, a crash or an
    upgrade, it is the way out for a host that is cut off.

    \b
    Examples:
      fastun disconnect
      fastun disconnect -i fastun0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import disconnect as ending  # noqa: PLC0415 (netlink: only for this one)

    ending.disconnect(interface, run_dir)
