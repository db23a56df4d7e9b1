"""`fastun peer`: the commands with their help. peers.py does the work, and is loaded for it."""

from pathlib import Path

import click

from fastun.command.client_file import FORMATS
from fastun.command.options import state_option


@click.group(no_args_is_help=False)
def peer() -> None:
    """Add, list, show and remove the clients of a server.

    A running gateway applies every change at once.

    \b
    Examples:
      fastun peer add laptop --endpoint tcp://vpn.example.net > laptop.toml
      fastun peer list
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@peer.command()
@click.argument("name")
@click.option(
    "--endpoint",
    multiple=True,
    metavar="URL",
    help="URL at which clients reach this server; repeatable, and the default from then on.",
)
@click.option(
    "--address",
    multiple=True,
    metavar="CIDR",
    help="Address of the client; repeatable.  [default: the next free one]",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="toml",
    show_default=True,
    help="toml for fastun; for WireGuard's apps a wg-quick file, or its QR code.",
)
@state_option
def add(
    name: str,
    endpoint: tuple[str, ...],
    address: tuple[str, ...],
    file_format: str,
    state: Path,
) -> None:
    """Create the keys and address of a client, and print its file.

    The file is all that the client needs, and secret: its private key is stored nowhere else.

    \b
    Examples:
      fastun peer add laptop > laptop.toml
      fastun peer add branch --address 10.9.0.7/24 > branch.toml
      fastun peer add phone --format qr
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.add(name, endpoint, address, file_format, state)


@peer.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
def list_(as_json: bool, state: Path) -> None:
    """List all peers.

    \b
    Examples:
      fastun peer list
      fastun peer list --json
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.show_list(state, as_json=as_json)


@peer.command()
@click.argument("name")
@state_option
def show(name: str, state: Path) -> None:
    """Show one peer.

    \b
    Examples:
      fastun peer show laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.show(name, state)


@peer.command()
@click.argument("name")
@state_option
def remove(name: str, state: Path) -> None:
    """Remove one peer, and close its link.

    \b
    Examples:
      fastun peer remove laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.remove(name, state)
