"""``fastun grafana``: the dashboard, rules and alerts, out of wherever fastun is installed."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import fastun
from fastun.command.options import PATH
from fastun.errors import RuntimeFailure, quote

# Of a checkout, and of an installed package (data-files in pyproject.toml).
_PLACES = (
    Path(fastun.__file__).resolve().parents[1] / "grafana",
    Path(sys.prefix) / "share" / "fastun" / "grafana",
)
# What Grafana and Prometheus read: the dashboard, how it is found, and the rules.
_PATTERNS = ("dashboards/*.json", "provisioning/*/*.yaml", "prometheus/*.yaml")


@click.command()
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    required=True,
    help="Directory to write to; created if missing.",
)
def grafana(out: Path) -> None:
    """Write the Grafana dashboard and the Prometheus rules.

    Prints the files written and where to copy them. An existing file with other content is not
    overwritten.

    \b
    Examples:
      fastun grafana --out fastun-monitoring
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    origin = next((each for each in _PLACES if (each / "dashboards").is_dir()), None)
    if origin is None:
        raise RuntimeFailure(
            f"the dashboard is not installed: neither {' nor '.join(map(str, _PLACES))} is there;"
            " install fastun anew"
        )
    pairs = [(file, out / file.relative_to(origin)) for file in _files(origin)]
    for file, copy in pairs:
        if copy.exists() and copy.read_bytes() != file.read_bytes():
            raise RuntimeFailure(
                f"--out {quote(str(out))}: {quote(copy.name)} is there with another content; remove"
                " it, or give another directory"
            )
    for file, copy in pairs:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        click.echo(copy)
    click.echo("Copy dashboards/ to /var/lib/grafana/dashboards/fastun/,", err=True)
    click.echo(
        "provisioning/ to /etc/grafana/, and prometheus/ beside Prometheus's file.", err=True
    )


def _files(origin: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        yield from sorted(origin.glob(pattern))
