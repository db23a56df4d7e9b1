"""``fastun capture``, as click shows it; fastun.capture does it."""

from pathlib import Path

import click

from fastun.command.completion import peer_names
from fastun.command.options import NumberRange, gateway_option, run_dir_option
from fastun.config.quantity import parse_size

STAGES = ("device", "sealed", "opened")
SNAP_LENGTH = 256
SECONDS = 60.0
SIZE = "100MB"


@click.command()
@gateway_option
@run_dir_option
@click.option(
    "-w",
    "--write",
    "target",
    metavar="FILE",
    default="-",
    help="New file to write to; without it, or with -, stdout.",
)
@click.option(
    "--peer",
    metavar="NAME",
    shell_complete=peer_names,
    help="Only packets from or to this peer.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    type=click.Choice(STAGES),
    help="Where to capture; repeatable. Without it: device.",
)
@click.option("--packets", type=click.IntRange(min=1), metavar="N", help="End after N packets.")
@click.option(
    "--seconds",
    type=NumberRange(min=0, min_open=True, max=86400),
    default=SECONDS,
    show_default=True,
    metavar="N",
    help="End after N seconds.",
)
@click.option(
    "--size",
    default=SIZE,
    show_default=True,
    metavar="SIZE",
    help="End when this much has been written.",
)
@click.option(
    "--snaplen",
    type=click.IntRange(min=1, max=65536),
    default=SNAP_LENGTH,
    show_default=True,
    metavar="BYTES",
    help="Bytes of each packet; 65536 for all.",
)
def capture(
    *,
    interface: str | None,
    run_dir: Path,
    target: str,
    peer: str | None,
    stages: tuple[str, ...],
    packets: int | None,
    seconds: float,
    size: str,
    snaplen: int,
) -> None:
    """Write a gateway's packets to a file for Wireshark.

    Stages: 'device' has what is read from the device and written to it; 'sealed' the messages as
    they are on the link; 'opened' what came out of messages, before it is checked. A packet that
    was dropped has the reason as a comment. Ends after 60 seconds or 100 MB unless given otherwise,
    or by Ctrl-C. Traffic never waits for a capture: it counts the packets that it was too slow for.
    It contains no keys.

    \b
    Examples:
      fastun capture -w tunnel.pcapng
      fastun capture --peer laptop --stage sealed --stage opened -w laptop.pcapng
      fastun capture --packets 20 | tcpdump -nr -
      fastun capture --seconds 3600 --snaplen 65536 | wireshark -k -i -
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.capture import command  # noqa: PLC0415 (the C library is for this one to load)
    from fastun.status.control import CaptureWanted  # noqa: PLC0415 (as above)

    limits = command.Limits(packets, seconds, parse_size(size, "--size"))
    wanted = CaptureWanted(tuple(dict.fromkeys(stages)) or STAGES[:1], peer, snaplen)
    command.run(interface, run_dir, target, wanted, limits)
