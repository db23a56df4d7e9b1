"""`fastun fleet`: the directory of several gateways, with its help. fleet.py does the work."""

from pathlib import Path

import click

from fastun.command.server_state import server_options

_url = click.argument("url")


@click.group(no_args_is_help=False)
def fleet() -> None:
    """Share one peer directory between several gateways.

    The directory is a PostgreSQL database, named by a libpq URL. Put its password in a passfile or
    a service file, not in the URL.

    \b
    Examples:
      fastun fleet prepare postgresql://fastun@db.example.net/fastun
      fastun fleet join postgresql://fastun@db.example.net/fastun
      fastun fleet leave
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@fleet.command()
@_url
def prepare(url: str) -> None:
    """Create the tables, or bring them up to date.

    Run it once before the first gateway starts, and again after you have updated fastun on all
    gateways. Nothing else changes the tables.

    \b
    Examples:
      fastun fleet prepare postgresql://fastun@db.example.net/fastun
      fastun fleet prepare 'postgresql:///?service=fastun'
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import fleet as work  # noqa: PLC0415

    work.prepare(url)


@fleet.command()
@_url
@server_options
def join(url: str, state: Path) -> None:
    """Move this server's peers to the fleet.

    If one conflicts, none is moved. From then on, commands on this server change the fleet's
    directory. Afterwards set fleet.directory in the configuration and restart the gateway.

    \b
    Examples:
      fastun fleet join postgresql://fastun@db.example.net/fastun
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import fleet as work  # noqa: PLC0415

    work.join(url, state)


@fleet.command()
@server_options
def leave(state: Path) -> None:
    """Leave the fleet and keep its peers on this server.

    Takes them from the copy on this host; the fleet's directory stays as it is. Afterwards remove
    fleet.directory from the configuration and restart the gateway.

    \b
    Examples:
      fastun fleet leave
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import fleet as work  # noqa: PLC0415

    work.leave(state)
