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
    help="In a fleet: let the peer connect again after its clock was ahead for a while.",
)
@server_options
def set_(name: str, state: Path, given: Given, reset_timestamp: bool) -> None:
    """Change settings of a peer; those not given stay as they are.

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
    """Cut off a peer, but keep its keys and addresses.

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
    """Rename a peer.

    Its session stays up; its metrics carry the new name.

    \b
    Examples:
      fastun peer rename laptop adas-laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.rename(name, new_name, state)


@click.command()
@peer_argument
@click.option("--psk", "only_psk", is_flag=True, help="Replace only the pre-shared key.")
@click.option(
    "--public-key", metavar="KEY", help="New public key of a peer that generates its own keys."
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
    """Give a peer new keys and print its new file. The old file stops working.

    For a file that was lost or that others have seen. The peer keeps its addresses, limits and
    other settings.

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

    The gateway logs a reminder a day and an hour before. Afterwards the peer cannot connect, but
    its entry stays, and a later date lets it in again.

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
@click.option("--outbound", metavar="RATE", help="Limit on what is sent to the peer; or none.")
@click.option("--inbound", metavar="RATE", help="Limit on what the peer sends; or none.")
@click.option(
    "--burst",
    metavar="SIZE",
    help="Burst that may pass at once after a pause.  [default: 50 ms at the rate]",
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
    """Limit a peer's rate.

    Applies to both directions, or to one with --inbound or --outbound; 'none' removes the limit.
    RATE is in bits per second, such as 10Mbit, or in bytes per second, such as 1.25MB. Packets
    above it wait for up to 100 ms, and are dropped after that.

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
    help="Rate in each direction once the quota is used up.  [default: nothing passes]",
)
@server_options
def quota(name: str, size: str | None, then: str | None, state: Path) -> None:
    """Limit a peer's traffic per month.

    SIZE is in bytes, both directions combined, per calendar month (UTC); 'none' removes the quota.
    Once it is used up, nothing passes until the next month or until the quota is raised; with
    --then, the peer is slowed down instead. Its session stays up.

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
    """Restrict a peer to these networks.

    Packets from the peer to any other destination are dropped, this server's own addresses
    included. 'all' removes the restriction.

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
    """Attach a note to a peer; an empty text removes it.

    \b
    Examples:
      fastun peer note laptop "Ada's, ticket 4711"
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peer_changes  # noqa: PLC0415

    peer_changes.change(name, Given(note=text), state)


COMMANDS: Final = (set_, enable, disable, rename, rekey, expire, limit, quota, to, note)
