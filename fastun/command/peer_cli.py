"""`fastun peer`: the commands with their help. peers.py and peer_changes.py do the work."""

from pathlib import Path

import click

from fastun.command import peer_change_cli
from fastun.command.options import PATH, peer_argument
from fastun.command.peer_fields import Given, endpoint_option, format_option, peer_options
from fastun.command.server_state import server_options


@click.group(no_args_is_help=False)
def peer() -> None:
    """Add, change, list and remove a server's peers.

    A running gateway applies every change within a second. Without --state, the commands act on the
    peers of the running gateway.

    \b
    Examples:
      fastun peer add laptop --endpoint tcp://vpn.example.net > laptop.toml
      fastun peer list
      fastun peer expire laptop 30d
      fastun peer disable laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@peer.command()
@click.argument("name")
@endpoint_option
@click.option(
    "--address",
    multiple=True,
    metavar="CIDR",
    help="Address of the client; repeatable.  [default: the next free one]",
)
@click.option(
    "--public-key",
    metavar="KEY",
    help="Public key of a peer that generated its own keys; prints the [[peer]] that it needs.",
)
@format_option
@peer_options
@server_options
def add(
    *,
    name: str,
    endpoint: tuple[str, ...],
    address: tuple[str, ...],
    public_key: str | None,
    file_format: str,
    state: Path,
    given: Given,
) -> None:
    """Add a client and print its configuration file.

    Generates the client's keys and picks an address. The file is all that it needs. Keep it secret:
    it holds the only copy of the client's private key. Use --public-key for a peer that has
    generated its own keys, such as the gateway of another site.

    \b
    Examples:
      fastun peer add laptop > laptop.toml
      fastun peer add branch --address 10.9.0.7/24 > branch.toml
      fastun peer add phone --format qr --expire 30d
      fastun peer add site --public-key KEY --allowed-ips 172.16.0.0/16 \\
                      --peer-endpoint udp://site.example.net
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.add(name, endpoint, address, file_format, state, public_key=public_key, given=given)


@peer.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
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
@peer_argument
@server_options
def show(name: str, state: Path) -> None:
    """Show one peer.

    \b
    Examples:
      fastun peer show laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.show(name, state)


@peer.command()
@peer_argument
@server_options
def remove(name: str, state: Path) -> None:
    """Remove a peer and close its link.

    \b
    Examples:
      fastun peer remove laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.remove(name, state)


@peer.command()
@server_options
def export(state: Path) -> None:
    """Print all peers, one JSON object per line.

    For a backup, or to move them to another server. The output contains pre-shared keys, but no
    client's private key.

    \b
    Examples:
      fastun peer export > peers.jsonl
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_transfer  # noqa: PLC0415

    peer_transfer.export(state)


@peer.command("import")
@click.argument("file", required=False, type=PATH)
@server_options
def import_(file: Path | None, state: Path) -> None:
    """Add the peers that 'peer export' printed.

    Existing peers stay. If one of the new ones conflicts with them, none is added. Reads stdin if
    FILE is not given.

    \b
    Examples:
      fastun peer import peers.jsonl
      ssh other fastun peer export | fastun peer import
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_transfer  # noqa: PLC0415

    peer_transfer.import_(file, state)


for command in peer_change_cli.COMMANDS:
    peer.add_command(command)
