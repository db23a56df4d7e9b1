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
    help="End after so long, even if peers are still connected.",
)
@click.option("--no-wait", is_flag=True, help="Begin, and return without waiting for the end.")
@click.option(
    "--cancel", is_flag=True, help="Cancel a drain: peers stay, and others may connect again."
)
def drain(
    interface: str | None, run_dir: Path, timeout: float, *, no_wait: bool, cancel: bool
) -> None:
    """Move a server's peers to other gateways, then end it.

    No new peer can connect. A connected peer that has another endpoint connects there first, so no
    connection inside the tunnel is lost. The server ends with exit code 0 when no peer is left, or
    when the time has passed. Shows its progress; Ctrl-C cancels the drain.

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
