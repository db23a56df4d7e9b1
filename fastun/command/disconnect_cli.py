"""``fastun disconnect``, as click shows it; disconnect.py does it."""

from pathlib import Path

import click

from fastun.command.completion import interface_names
from fastun.command.options import GATEWAY, run_dir_option


@click.command()
@click.option(
    "-i",
    "--interface",
    type=GATEWAY,
    metavar="NAME",
    shell_complete=interface_names,
    help="Interface of the client, if more than one is running.",
)
@run_dir_option
def disconnect(interface: str | None, run_dir: Path) -> None:
    """Stop 'fastun connect' and remove its kill switch.

    Also removes a kill switch left by a fastun that was stopped, upgraded or has crashed: use it
    when the host is cut off.

    \b
    Examples:
      fastun disconnect
      fastun disconnect -i fastun0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import disconnect as ending  # noqa: PLC0415 (netlink: only for this one)

    ending.disconnect(interface, run_dir)
