"""``fastun install-service``: units of systemd for however fastun is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastun.command.options import PATH
from fastun.errors import ConfigError, quote

if TYPE_CHECKING:
    from fastun.vocabulary import Role

# Of a file's name and a unit's alike.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@click.command("install-service")
@click.argument("name", required=False)
@click.option(
    "--role",
    type=click.Choice(("serve", "connect")),
    default="serve",
    show_default=True,
    help="Run a server, or connect to one.",
)
@click.option(
    "--remove", is_flag=True, help="Stop and disable the service; settings and keys stay."
)
@click.option(
    "--no-start", is_flag=True, help="Enable the service at boot, but do not start it now."
)
@click.option("--print", "prints", is_flag=True, help="Print the unit and change nothing.")
@click.option(
    "--package",
    type=PATH,
    metavar="DIR",
    help="Only write the files of a distribution package below DIR.",
)
@click.option(
    "--command",
    "command",
    metavar="PATH",
    help="With --print or --package: path of the fastun to run.  [default: this one]",
)
def install_service(  # what the command line can say
    *,
    name: str | None,
    role: Role,
    remove: bool,
    no_start: bool,
    prints: bool,
    package: Path | None,
    command: str | None,
) -> None:
    """Run /etc/fastun/NAME.toml as a systemd service.

    Writes the units fastun-serve@.service and fastun-connect@.service for this installation,
    creates the user fastun that they run as, enables and starts the unit for --role, and waits
    until it is up.

    \b
    Examples:
      fastun install-service office
      fastun install-service home --role connect
      fastun install-service office --remove
      fastun install-service --print
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.service import installing, units  # noqa: PLC0415 (for this command only)

    if prints or package is not None:
        of = units.Installation(command) if command else units.this_installation()
        if package is not None:
            for path in installing.write(units.texts(of, units.OF_PACKAGE), package):
                click.echo(path)
        else:
            unit = units.OF_HOST.units / units.unit_name(role)
            click.echo(units.texts(of, units.OF_HOST)[unit], nl=False)
        return
    if command is not None:
        raise ConfigError("--command: only with --print or --package; remove it")
    if name is None:
        raise ConfigError("NAME: missing; the settings are in /etc/fastun/NAME.toml")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"NAME: {quote(name)} must be letters, digits, '.', '_' and '-', as in office"
        )
    if remove:
        installing.remove(role, name, click.echo)
    else:
        installing.install(role, name, click.echo, starts=not no_start)
