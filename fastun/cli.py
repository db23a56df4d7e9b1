"""The command line: options and help in, Settings out; and how every failure reaches the person.

`serve` and `connect` differ only in whom they listen for or dial, so they share one list of
options. What runs a command is imported inside it: `fastun --help` loads no netlink library.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from fastun import __version__, config
from fastun.errors import FastunError, RuntimeFailure, one_line

_PATH = click.Path(path_type=Path)
_OPTIONS = config.Options()
_INTERFACE = config.InterfaceSection()
_LISTEN = config.ListenSection()
_METRICS = config.MetricsSection()


def _or_else(text: str, default: object) -> str:
    """Return the help of an option that overrides a field; `default` is the field's."""
    return f"{text}  [default: {default}]"


# Each name here is a field of config.Options.
_TUNNEL_OPTIONS = (
    click.option(
        "-c", "--config", type=_PATH, metavar="FILE", help="TOML file; options win over it."
    ),
    click.option(
        "-i", "--interface", metavar="NAME", help=_or_else("Name of the device.", _INTERFACE.name)
    ),
    click.option(
        "--mode",
        type=click.Choice(config.MODES),
        help=_or_else("Carry IP packets or Ethernet frames.", _INTERFACE.mode),
    ),
    click.option(
        "--address",
        multiple=True,
        metavar="CIDR",
        help="Address of the device, as in 10.9.0.1/24; may be repeated.",
    ),
    click.option(
        "--mtu",
        type=int,
        metavar="BYTES",
        help=_or_else("MTU of the device.", _INTERFACE.mtu),
    ),
    click.option(
        "--wire",
        type=click.Choice(config.WIRES),
        help=_or_else(
            "What the link carries: plain is fastun unencrypted, simpletun talks to the original"
            " program; wireguard is not part of this version yet.",
            _INTERFACE.wire,
        ),
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Accept a wire that anyone on the path can read and inject packets into.",
    ),
    click.option(
        "--metrics",
        metavar="HOST:PORT|off",
        help=_or_else("Where Prometheus scrapes /metrics.", _METRICS.listen),
    ),
    click.option(
        "--lanes",
        type=int,
        metavar="N",
        help=_or_else(
            "Device queues with workers of their own; more than 1 is not part of this version yet.",
            _INTERFACE.lanes,
        ),
    ),
    click.option(
        "--state",
        type=_PATH,
        metavar="DIR",
        default=_OPTIONS.state,
        show_default=True,
        help="What outlives the process: keys and peers.",
    ),
    click.option(
        "--run-dir",
        type=_PATH,
        metavar="DIR",
        default=_OPTIONS.run_dir,
        show_default=True,
        help="Where the control socket stands.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(config.LOG_FORMATS),
        default=_OPTIONS.log_format,
        show_default=True,
        help="Shape of the events on stderr.",
    ),
    click.option("-v", "--verbose", count=True, help="Log debug events as well."),
)


def _tunnel_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that serve and connect have in common."""
    for option in reversed(_TUNNEL_OPTIONS):
        command = option(command)
    return command


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    no_args_is_help=False,
)
@click.version_option(__version__, message="fastun %(version)s")
def cli() -> None:
    """Tunnel IP packets (TUN) or Ethernet frames (TAP) between hosts, fast.

    \b
    On the one host:    fastun serve --address 10.9.0.1/24 ...
    On the other:       fastun connect tcp://HOST --address 10.9.0.2/24 ...
    How is it doing?    fastun status
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@cli.command()
@_tunnel_options
@click.option(
    "--listen",
    multiple=True,
    metavar="URL",
    help=_or_else("Where to wait for links; may be repeated.", ", ".join(_LISTEN.tcp)),
)
def serve(**options: Any) -> None:
    """Wait for links, and carry packets between them and a device.

    \b
    Examples:
      fastun serve --address 10.9.0.1/24 --wire plain --insecure
      fastun serve --listen tcp://192.0.2.1:443 --address fd00:9::1/64 \\
                   --wire plain --insecure
      fastun serve -c gateway.toml --insecure
      fastun serve --wire simpletun --insecure --mode tap -i tap0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    _run("serve", None, config.Options(**options))


@cli.command()
@_tunnel_options
@click.argument("target", metavar="ENDPOINT|FILE", required=False)
def connect(target: str | None, **options: Any) -> None:
    """Dial a server, and carry packets between it and a device.

    ENDPOINT is a URL, tcp://HOST[:PORT]; FILE is a TOML file with the endpoint in its [[peer]].

    \b
    Examples:
      fastun connect tcp://vpn.example.net --address 10.9.0.2/24 \\
                     --wire plain --insecure
      fastun connect tcp://[2001:db8::1]:443 --address 10.9.0.2/24 \\
                     --wire plain --insecure
      fastun connect ./office.toml --insecure
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    _run("connect", target, config.Options(**options))


@cli.command()
@click.option(
    "-i", "--interface", metavar="NAME", help="Which gateway, where more than one is running."
)
@click.option(
    "--run-dir",
    type=_PATH,
    metavar="DIR",
    default=_OPTIONS.run_dir,
    show_default=True,
    help="Where the control socket stands.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(interface: str | None, run_dir: Path, as_json: bool) -> None:
    """Show what a running gateway is doing.

    \b
    Examples:
      fastun status
      fastun status -i fastun0 --json
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.status import show  # noqa: PLC0415 (rich is not for the other commands to load)

    show(interface, run_dir, as_json)


def _run(role: config.Role, target: str | None, options: config.Options) -> None:
    settings = config.load(role, target, options)
    from fastun.gateway import run  # noqa: PLC0415 (pyroute2 alone takes 0.5 s)

    try:
        run(settings)
    except OSError as error:
        # Here and not in main(): click would take a broken pipe for one on stdout and say nothing.
        raise RuntimeFailure(_of_the_system(error)) from error


def main() -> NoReturn:
    """Run the command line, and exit: 0 done or asked to stop, 1 failed, 2 used wrongly.

    Whatever went wrong is one line on stderr; FASTUN_DEBUG=1 shows the traceback instead.
    """
    # Until the gateway has its own handlers: to be asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        exit_code = cli.main(prog_name="fastun", standalone_mode=False)
    except click.Abort:  # click's word for Ctrl-C.
        exit_code = 0
    except Exception as error:  # The last place where it can become one line.
        if os.environ.get("FASTUN_DEBUG"):
            raise
        exit_code, line = _explain(error)
        with suppress(OSError):
            click.echo(f"fastun: {one_line(line)}", err=True)
    sys.exit(exit_code)


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit code that `error` calls for, and the line that tells of it."""
    match error:
        case FastunError():
            return error.exit_code, str(error)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "fastun"
            message = " ".join(error.format_message().split())
            return error.exit_code, f"{message} (see '{command} --help')"
        case click.ClickException():
            return error.exit_code, error.format_message()
        case OSError():
            return 1, _of_the_system(error)
    return 1, f"internal error: {type(error).__name__}: {error}; FASTUN_DEBUG=1 shows where"


def _of_the_system(error: OSError) -> str:
    """Return the system's complaint without its number, with the file it is about."""
    message = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {message}" if error.filename else message
