"""``fastun drain``, as click shows it; drain.py does it."""

from pathlib import Path

import click

from fastun.command.options import NumberRange, gateway_option, run_dir_option


@click.command()
@gateway_option
@run_dir_option
@click.option(
    "--timeout",
    type=NumberRange(min=1, max=86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Stop after this time, even if peers are still connected.",
)
@click.option("--no-wait", is_flag=True, help="Start the drain and return at once.")
@click.option(
    "--cancel", is_flag=True, help="Cancel a drain: peers stay, and new ones can connect again."
)
def drain(
    interface: str | None, run_dir: Path, timeout: float, *, no_wait: bool, cancel: bool
) -> None:
    """Move a server's peers to other gateways, then stop it.

    New peers are refused. A connected peer that has another endpoint connects there before it
    leaves, so connections inside the tunnel survive. The server exits with code 0 when no peer is
    left or the timeout has passed. Shows the progress; Ctrl-C cancels the drain.

    \b
    Examples:
      fastun drain
      fastun drain -i fastun0 --timeout 300
      fastun drain --cancel
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import drain as draining  # noqa: PLC0415 (rich: only for this one)

    if cancel:
        draining.cancel(interface, run_dir)
    else:
        draining.begin(interface, run_dir, timeout, waits=not no_wait)
