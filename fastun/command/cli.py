"""The command line: options and help in, Settings out; and how every failure reaches the person.

`serve` and `connect` differ only in whom they listen for or dial, so they share one list of
options. What runs a command is imported inside it: `fastun --help` loads no netlink library.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from fastun import __version__, ending
from fastun.command.client_file import FORMATS
from fastun.command.options import or_else, run_dir_option, state_option, tunnel_options
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.config.settings import Options, Role, load
from fastun.errors import FastunError, RuntimeFailure, one_line

_LAST_LINE_LIMIT_S = 1.0


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    no_args_is_help=False,
)
@click.version_option(__version__, message="fastun %(version)s")
def cli() -> None:
    """Tunnel IP packets (TUN) or Ethernet frames (TAP) between hosts, fast.

    \b
    On the one host:    fastun serve
    For each other:     fastun peer add NAME > NAME.toml
    And over there:     fastun connect NAME.toml
    How is it doing?    fastun status, fastun top
    What is missing?    fastun doctor
    How fast is it?     fastun bench
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@cli.command()
@tunnel_options
@click.option(
    "--listen",
    multiple=True,
    metavar="URL",
    help=or_else(
        "Where to wait for links, udp://HOST[:PORT] or tcp://; may be repeated.",
        f"{DEFAULT_UDP} on the wireguard wire, and {DEFAULT_TCP}",
    ),
)
def serve(**options: Any) -> None:
    """Wait for links, and carry packets between them and a device.

    \b
    Examples:
      fastun serve --address 10.9.0.1/24 --address fd00:9::1/64
      fastun serve --address 10.9.0.1/24 --wire plain --insecure
      fastun serve --listen tcp://192.0.2.1:443 --address fd00:9::1/64 \\
                   --wire plain --insecure
      fastun serve -c gateway.toml
      fastun serve --listen udp://[::]:51820
      fastun serve --wire simpletun --insecure --mode tap -i tap0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    _run("serve", None, Options(**options))


@cli.command()
@tunnel_options
@click.argument("target", metavar="ENDPOINT|FILE", required=False)
def connect(target: str | None, **options: Any) -> None:
    """Dial a server, and carry packets between it and a device.

    FILE is what 'fastun peer add' prints on the server, any TOML file with the endpoint and the key
    of its [[peer]], or a wg-quick file, NAME.conf; ENDPOINT is a URL, tcp://HOST[:PORT] or udp://.

    \b
    Examples:
      fastun connect laptop.toml
      fastun connect /etc/wireguard/wg0.conf
      fastun connect tcp://vpn.example.net --address 10.9.0.2/24 \\
                     --wire plain --insecure
      fastun connect tcp://[2001:db8::1]:443 --address 10.9.0.2/24 \\
                     --wire plain --insecure
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    _run("connect", target, Options(**options))


@cli.command()
@click.option(
    "-i", "--interface", metavar="NAME", help="Which gateway, where more than one is running."
)
@run_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(interface: str | None, run_dir: Path, as_json: bool) -> None:
    """Show what a running gateway is doing.

    \b
    Examples:
      fastun status
      fastun status -i fastun0 --json
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.status import report  # noqa: PLC0415 (rich is for this one to load)

    report.show(interface, run_dir, as_json)


@cli.command()
@click.option(
    "-i", "--interface", metavar="NAME", help="Which gateway, where more than one is running."
)
@run_dir_option
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between frames.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print so many frames as plain text, and end.",
)
def top(interface: str | None, run_dir: Path, interval: float, count: int | None) -> None:
    """Watch a running gateway: rates, rings, drops, peers, and the bottleneck.

    On a terminal until q or Ctrl-C; into a pipe or a file frame after frame.

    \b
    Examples:
      fastun top
      fastun top -i fastun0 --interval 5
      fastun top --count 1
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.top import watch  # noqa: PLC0415 (rich, as above)

    watch.run(interface, run_dir, interval, count)


@cli.command()
@state_option
@run_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, state: Path, run_dir: Path, as_json: bool) -> None:
    """Check this host for what fastun needs, and say how to mend it.

    Changes nothing. Without root it looks at what it may. Exit code 0 when nothing has failed, 1
    otherwise.

    \b
    Examples:
      fastun doctor
      fastun doctor --json
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.doctor import examination  # noqa: PLC0415 (as above)

    context.exit(examination.show(state, run_dir, as_json))


@cli.command()
@click.option(
    "--peer",
    metavar="NAME|ADDRESS",
    help="Measure the live tunnel to this peer, where --serve runs.",
)
@click.option("--serve", "served", is_flag=True, help="Be the other end, for an hour at most.")
@click.option(
    "-i", "--interface", metavar="NAME", help="Which gateway, where more than one is running."
)
@run_dir_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.2, max=60),
    default=2.0,
    show_default=True,
    metavar="N",
    help="How long to send in each direction.",
)
@click.option("--reverse", is_flag=True, help="With --peer: only from there to here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(**options: Any) -> None:
    """Measure what this machine can do, or a live tunnel.

    Without --peer: a veth pair between two network namespaces, and each wire over it, in under a
    minute; nothing outside is touched. With --peer: through a running tunnel, to another host on
    which 'fastun bench --serve' runs. Nothing listens for traffic unless that does; it takes
    one client at a time, and only out of the tunnel.

    \b
    Examples:
      fastun bench
      fastun bench --seconds 5 --json > bench.json
      fastun bench --serve                          on the one host
      fastun bench --peer laptop                    on the other
      fastun bench --peer 10.55.0.1 --reverse
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.bench import command  # noqa: PLC0415 (rich, as above)

    command.run(**options)


@cli.command()
def keygen() -> None:
    """Print a new private key.

    \b
    Examples:
      fastun keygen > private.key
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import keys  # noqa: PLC0415 (cryptography takes 0.1 s, as below)

    keys.keygen()


@cli.command()
def pubkey() -> None:
    """Read a private key from stdin, and print its public key.

    \b
    Examples:
      fastun pubkey < private.key
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import keys  # noqa: PLC0415

    keys.pubkey()


@cli.group(no_args_is_help=False)
def peer() -> None:
    """Add, list, show and remove the clients of a server.

    A running gateway takes up every change at once.

    \b
    Examples:
      fastun peer add laptop --endpoint tcp://vpn.example.net > laptop.toml
      fastun peer list
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@peer.command()
@click.argument("name")
@click.option(
    "--endpoint",
    multiple=True,
    metavar="URL",
    help="Where clients reach this server; may be repeated. Remembered for the next.",
)
@click.option(
    "--address",
    multiple=True,
    metavar="CIDR",
    help="The client's address; may be repeated.  [default: the next free one]",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="toml",
    show_default=True,
    help="fastun's own, or for WireGuard's apps a file or its QR code.",
)
@state_option
def add(
    name: str,
    endpoint: tuple[str, ...],
    address: tuple[str, ...],
    file_format: str,
    state: Path,
) -> None:
    """Make keys and an address for a client, and print its file on stdout.

    The file is all that the client needs, and secret: its private key is stored nowhere else.

    \b
    Examples:
      fastun peer add laptop > laptop.toml
      fastun peer add branch --address 10.9.0.7/24 > branch.toml
      fastun peer add phone --format qr
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.add(name, endpoint, address, file_format, state)


@peer.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
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
@click.argument("name")
@state_option
def show(name: str, state: Path) -> None:
    """Show one peer.

    \b
    Examples:
      fastun peer show laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.show(name, state)


@peer.command()
@click.argument("name")
@state_option
def remove(name: str, state: Path) -> None:
    """Remove one peer; its link, if it has one, is cut.

    \b
    Examples:
      fastun peer remove laptop
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import peers  # noqa: PLC0415

    peers.remove(name, state)


def _run(role: Role, target: str | None, options: Options) -> None:
    settings = load(role, target, options)
    ending.note()  # an exception that a handler raises is lost where Python calls us back
    from fastun.gateway.run import run  # noqa: PLC0415 (pyroute2 alone takes 0.5 s)

    try:
        run(settings)
    except OSError as error:
        # Here and not in main(): click would take a broken pipe for one on stdout and say nothing.
        raise RuntimeFailure(_of_the_system(error)) from error


def main() -> NoReturn:
    """Run the command line, and exit: 0 done or asked to stop, 1 failed, 2 used wrongly.

    Whatever went wrong is one line on stderr; FASTUN_DEBUG=1 shows the traceback instead.
    """
    # Until the gateway has its own handlers: to be asked to stop is no failure. SIGINT is click's.
    ending.handle(lambda *_: sys.exit(0), (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP))
    try:
        exit_code = cli.main(prog_name="fastun", standalone_mode=False)
    except click.Abort:  # click's word for Ctrl-C.
        exit_code = 0
    except Exception as error:  # The last place where it can become one line.
        if os.environ.get("FASTUN_DEBUG"):
            raise
        exit_code, line = _explain(error)
        _say(f"fastun: {one_line(line)}", exit_code)
    sys.exit(exit_code)


def _say(line: str, exit_code: int) -> None:
    """Print the last line. An unread stderr must not keep the process from ending."""

    def say() -> None:
        with suppress(OSError, ValueError):
            click.echo(line, err=True)

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(_LAST_LINE_LIMIT_S)
    if saying.is_alive():
        os._exit(exit_code)


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
