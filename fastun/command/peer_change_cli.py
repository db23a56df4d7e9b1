"""The commands of `fastun peer` that change a peer, with their help. peer_changes.py does it."""

from pathlib import Path
from typing import Final

import click

from fastun.command.options import peer_argument
from fastun.command.peer_fields import NOTHING, Given, endpoint_option, format_option, peer_options
from fastun.command.server_state import server_options


@click.command("set")
@peer_argument
@peer_options
@click.option(
    "--reset-timestamp",
    is_flag=True,
    help="In a fleet: let it connect again after its clock was ahead for a time.",
)
@server_options
def set_(name: str, state: Path, given: Given, reset_timestamp: bool) -> None:
    """Change the given settings of a peer, and nothing else.

    Networks and endpoints replace the old ones; 'none' removes them.

    \b
    Examples:
      fastun peer set site --allowed-ips 172.16.0.0/16,172.18.0.0/16
      fastun peer set laptop --keepalive 25 --note "Ada's, until spring"
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    if reset_timestamp:
        peer_changes.reset_timestamp(name, state)
    if given != NOTHING or not reset_timestamp:
        peer_changes.change(name, given, state)


@click.command()
@peer_argument
@server_options
def enable(name: str, state: Path) -> None:
    """Let a disabled peer connect again.

    \b
    Examples:
      fastun peer enable laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.set_enabled(name, state, enabled=True)


@click.command()
@peer_argument
@server_options
def disable(name: str, state: Path) -> None:
    """Cut off one peer, and keep its keys and addresses.

    \b
    Examples:
      fastun peer disable laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.set_enabled(name, state, enabled=False)


@click.command()
@peer_argument
@click.argument("new_name")
@server_options
def rename(name: str, new_name: str, state: Path) -> None:
    """Give a peer another name.

    Its session goes on, its metrics have the new name.

    \b
    Examples:
      fastun peer rename laptop adas-laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.rename(name, new_name, state)


@click.command()
@peer_argument
@click.option("--psk", "only_psk", is_flag=True, help="Only a new pre-shared key.")
@click.option(
    "--public-key", metavar="KEY", help="New public key of a peer that keeps its private key."
)
@endpoint_option
@format_option
@server_options
def rekey(
    *,
    name: str,
    only_psk: bool,
    public_key: str | None,
    endpoint: tuple[str, ...],
    file_format: str,
    state: Path,
) -> None:
    """Give a peer new keys, and print its new file. The old one stops working.

    For a file that was lost or seen by others. Its addresses and terms stay.

    \b
    Examples:
      fastun peer rekey laptop > laptop.toml
      fastun peer rekey site --public-key KEY
      fastun peer rekey site --psk
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.rekey(
        name,
        state,
        public_key=public_key,
        only_psk=only_psk,
        urls=endpoint,
        file_format=file_format,
    )


@click.command()
@peer_argument
@click.argument("when")
@server_options
def expire(name: str, when: str, state: Path) -> None:
    """End a peer's access at a date, after a duration, or never.

    The gateway says so a day and an hour before. Afterwards the peer cannot connect, and all that
    is known of it stays.

    \b
    Examples:
      fastun peer expire laptop 2027-01-31
      fastun peer expire laptop 2027-01-31T18:00
      fastun peer expire laptop 30d
      fastun peer expire laptop never
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.change(name, Given(expires=when), state)


@click.command()
@peer_argument
@click.argument("rate", required=False)
@click.option("--outbound", metavar="RATE", help="Most that is sent to the peer; or none.")
@click.option("--inbound", metavar="RATE", help="Most that the peer may send; or none.")
@click.option(
    "--burst",
    metavar="SIZE",
    help="What may pass at once after a pause.  [default: 50 ms of the rate]",
)
@server_options
def limit(
    *,
    name: str,
    rate: str | None,
    outbound: str | None,
    inbound: str | None,
    burst: str | None,
    state: Path,
) -> None:
    """Limit the rate of a peer.

    In both directions or in one; 'none' removes it. RATE is in bits a second, such as 10Mbit, or
    in bytes, such as 1.25MB. Packets above it wait for up to 100 ms; beyond that they are dropped.

    \b
    Examples:
      fastun peer limit laptop 10Mbit
      fastun peer limit laptop --inbound 2Mbit --outbound 20Mbit
      fastun peer limit laptop none
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    given = Given(limit=rate, outbound=outbound, inbound=inbound, burst=burst)
    peer_changes.change(name, given, state)


@click.command()
@peer_argument
@click.argument("size", required=False)
@click.option(
    "--then",
    metavar="RATE",
    help="Rate in each direction once it is used up.  [default: none, it is cut off]",
)
@server_options
def quota(name: str, size: str | None, then: str | None, state: Path) -> None:
    """Limit what a peer may send and receive in a month.

    In bytes, both directions together, in a calendar month (UTC); 'none' removes it. Once it is
    used up, nothing passes until the next month, or until the quota is raised; with
    --then the peer is slowed down instead. Its session stays.

    \b
    Examples:
      fastun peer quota laptop 50GB
      fastun peer quota laptop 50GB --then 1Mbit
      fastun peer quota laptop none
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.change(name, Given(quota=size, quota_then=then), state)


@click.command()
@peer_argument
@click.argument("networks", nargs=-1, required=True)
@server_options
def to(name: str, networks: tuple[str, ...], state: Path) -> None:
    """Let a peer reach these networks only.

    'all' removes the restriction. Judged by the destination of each packet from the peer, this
    server's own addresses included.

    \b
    Examples:
      fastun peer to laptop 172.16.9.0/24 10.9.0.1
      fastun peer to laptop all
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.change(name, Given(to=networks), state)


@click.command()
@peer_argument
@click.argument("text")
@server_options
def note(name: str, text: str, state: Path) -> None:
    """Write a line of your own about a peer; an empty one removes it.

    \b
    Examples:
      fastun peer note laptop "Ada's, ticket 4711"
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.change(name, Given(note=text), state)


COMMANDS: Final = (set_, enable, disable, rename, rekey, expire, limit, quota, to, note)
