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
    help="File to create; - or no file for stdout.",
)
@click.option(
    "--peer",
    metavar="NAME",
    shell_complete=peer_names,
    help="Only packets to or from this peer.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    type=click.Choice(STAGES),
    help="Where to capture; repeatable.  [default: device]",
)
@click.option("--packets", type=click.IntRange(min=1), metavar="N", help="Stop after N packets.")
@click.option(
    "--seconds",
    type=NumberRange(min=0, min_open=True, max=86400),
    default=SECONDS,
    show_default=True,
    metavar="N",
    help="Stop after N seconds.",
)
@click.option(
    "--size",
    default=SIZE,
    show_default=True,
    metavar="SIZE",
    help="Stop when the output has this size.",
)
@click.option(
    "--snaplen",
    type=click.IntRange(min=1, max=65536),
    default=SNAP_LENGTH,
    show_default=True,
    metavar="BYTES",
    help="Bytes to keep of each packet; 65536 keeps all.",
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
    """Capture a gateway's packets for Wireshark.

    Stage 'device' captures packets read from and written to the device, 'sealed' the encrypted
    messages on the link, 'opened' what was decrypted, before it is checked. Dropped packets carry
    the reason as a comment. Stops after 60 seconds or 100 MB by default, or on Ctrl-C. A capture
    never slows traffic down; it counts the packets it missed. It contains no keys.

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
