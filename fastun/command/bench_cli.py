"""``fastun bench``: what this machine can do, or a live tunnel."""

from typing import Any

import click

from fastun.command.completion import peer_names
from fastun.command.options import NumberRange, gateway_option, run_dir_option


@click.command()
@click.option(
    "--peer",
    metavar="NAME|ADDRESS",
    shell_complete=peer_names,
    help="Measure the live tunnel to this peer, which runs bench --serve.",
)
@click.option(
    "--serve",
    "served",
    is_flag=True,
    help="Answer measurements, one client at a time, for up to an hour.",
)
@gateway_option
@run_dir_option
@click.option(
    "--seconds",
    type=NumberRange(min=0.2, max=60),
    default=2.0,
    show_default=True,
    metavar="N",
    help="Duration of each direction; with --model, of each load.",
)
@click.option(
    "--reverse", is_flag=True, help="With --peer: measure only from the peer to this host."
)
@click.option(
    "--model",
    is_flag=True,
    help="Measure what each stage costs, and predict the throughput of other machines.",
)
@click.option(
    "--nic",
    type=NumberRange(min=0.1, max=1000),
    metavar="GBIT",
    help="With --model: their NIC, in Gbit/s.  [default: 100]",
)
@click.option(
    "--lanes",
    type=int,
    metavar="N",
    help="With --model: their lanes, 1 to 16.  [default: half their cores]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(**options: Any) -> None:
    """Measure this machine or a live tunnel; model more cores.

    Without options, measures a tunnel on each wire between two network namespaces of this machine.
    Takes under a minute and touches nothing else.

    --peer measures through a running tunnel to a host that runs 'fastun bench --serve', which
    accepts connections only from the tunnel.

    --model measures what each stage costs here and predicts the throughput of machines with 1 to 64
    cores. Takes about a minute.

    \b
    Examples:
      fastun bench
      fastun bench --seconds 5 --json > bench.json
      fastun bench --serve                  on one host
      fastun bench --peer laptop            on the other
      fastun bench --peer 10.55.0.1 --reverse
      fastun bench --model --nic 25 --lanes 4
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.bench import command  # noqa: PLC0415 (rich, not for all commands)

    command.run(**options)
