"""The command line: options and help in, Settings out; and how every failure reaches the person.

`serve` and `connect` differ only in where they listen or dial, so they share one list of
options. What runs a command is imported inside it: `fastun --help` loads no netlink library.
"""

import functools
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from fastun import __version__, ending, imports
from fastun.command import streams
from fastun.command.completion import completion, interface_names, peer_names
from fastun.command.last_line import (
    Stopped,
    explain,
    interrupted,
    of_the_system,
    say_last,
    stop,
)
from fastun.command.late import LateCommands
from fastun.command.options import (
    GATEWAY,
    NumberRange,
    connect_options,
    gateway_option,
    or_else,
    run_dir_option,
    state_option,
    tunnel_options,
)
from fastun.config.key_text import without_keys
from fastun.config.links import DEFAULT_TCP, DEFAULT_UDP
from fastun.config.settings import ConnectSettings, Options, Role, load
from fastun.errors import RuntimeFailure, one_line


@click.group(
    commands=LateCommands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    no_args_is_help=False,
)
@click.version_option(__version__, message="fastun %(version)s")
def cli() -> None:
    """Carry IP packets (TUN) or Ethernet frames (TAP) through a fast tunnel.

    \b
    Run a server:       fastun serve
    Add a client:       fastun peer add NAME > NAME.toml
    Connect a client:   fastun connect NAME.toml
    Disconnect it:      fastun disconnect
    See what happens:   fastun status, fastun top
    Apply new settings: fastun reload
    Capture packets:    fastun capture
    Check this host:    fastun doctor
    Measure speed:      fastun bench
    Run as a service:   fastun install-service NAME
    Several gateways:   fastun fleet, fastun drain
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)


@cli.command()
@tunnel_options
@click.option(
    "--listen",
    multiple=True,
    metavar="URL",
    help=or_else(
        "Address to listen on, udp://HOST[:PORT] or tcp://HOST[:PORT]; repeatable.",
        f"{DEFAULT_UDP} on the wireguard wire, and {DEFAULT_TCP}",
    ),
)
def serve(**options: Any) -> None:
    """Run a server: accept peers and carry their traffic.

    \b
    Examples:
      fastun serve --address 10.9.0.1/24 --address fd00:9::1/64
      fastun serve --forward --masquerade
      fastun serve -c gateway.toml
      fastun serve --mode tap --address 10.9.0.1/24
      fastun serve --listen udp://[::]:51820
      fastun serve --address 10.9.0.1/24 --wire plain --insecure
      fastun serve --wire simpletun --insecure --mode tap -i tap0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    _run("serve", None, Options(**options))


@cli.command()
@tunnel_options
@click.argument("target", metavar="ENDPOINT|FILE", required=False)
@connect_options
@click.pass_context
def connect(context: click.Context, /, target: str | None, check: bool, **options: Any) -> None:
    """Connect to a server and carry traffic through it.

    FILE is what 'fastun peer add' printed on the server, any other TOML file whose [[peer]] has an
    endpoint and a key, or a wg-quick file (NAME.conf). ENDPOINT is a URL: tcp://HOST[:PORT] or
    udp://HOST[:PORT].

    \b
    Examples:
      fastun connect laptop.toml
      fastun connect laptop.toml --all
      fastun connect laptop.toml --all --kill-switch
      fastun connect laptop.toml --check
      fastun connect /etc/wireguard/wg0.conf
      fastun connect tcp://[2001:db8::1]:443 --address 10.9.0.2/24 \\
                     --wire plain --insecure
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    if not check:
        _run("connect", target, Options(**options))
        return
    from fastun.doctor import connection, listing  # noqa: PLC0415 (as for doctor)

    context.exit(listing.show(connection.examine(_dialling(target, options)), as_json=False))


@cli.command()
@click.option(
    "-i",
    "--interface",
    type=GATEWAY,
    metavar="NAME",
    shell_complete=interface_names,
    help="Only the gateway of this interface.",
)
@run_dir_option
@click.option(
    "--all", "shows_all", is_flag=True, help="Also list every peer that is not connected."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--ready", "asks_ready", is_flag=True, help="Only say whether traffic can pass; exit 1 if not."
)
def status(
    interface: str | None, run_dir: Path, shows_all: bool, as_json: bool, asks_ready: bool
) -> None:
    """Show running gateways and their peers.

    Lists all connected peers, and up to ten that are not connected. --json prints an object for one
    gateway or an array for several, always with all peers. --ready gives the same answer as
    /readyz.

    \b
    Examples:
      fastun status
      fastun status --all
      fastun status -i fastun0 --json
      fastun status --ready
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    if asks_ready:
        from fastun.status import readiness  # noqa: PLC0415 (as below)

        readiness.show(interface, run_dir)
        return
    from fastun.status import report  # noqa: PLC0415 (rich is for this one to load)

    report.show(interface, run_dir, as_json=as_json, shows_all=shows_all)


@cli.command()
@gateway_option
@run_dir_option
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Process ID of the gateway, for service managers.",
)
def reload(interface: str | None, run_dir: Path, pid: int | None) -> None:
    """Apply configuration changes to a running gateway.

    Waits until the changes are in effect and prints one line for each, and one for each field that
    needs a restart. Sessions stay up. If the file is invalid, nothing changes: the command prints
    the error and exits with code 2. SIGHUP does the same, unless the gateway runs on a terminal.

    \b
    Examples:
      fastun reload
      fastun reload -i fastun0
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.command import reload  # noqa: PLC0415 (as above)

    reload.run(interface, run_dir, pid)


@cli.command()
@gateway_option
@run_dir_option
@click.option(
    "--interval",
    type=NumberRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between snapshots.",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print N snapshots as plain text, then exit.",
)
def top(interface: str | None, run_dir: Path, interval: float, count: int | None) -> None:
    """Watch a gateway's rates, rings, drops and bottleneck.

    Press q or Ctrl-C to quit. If the output is a pipe or a file, prints one snapshot after another.

    \b
    Examples:
      fastun top
      fastun top -i fastun0 --interval 5
      fastun top --count 1
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.top import watch  # noqa: PLC0415 (rich, as above)

    watch.run(interface, run_dir, interval, count)


@cli.command()
@click.option(
    "--peer",
    "name",
    metavar="NAME",
    shell_complete=peer_names,
    help="Find out why this peer is not connected.",
)
@state_option
@run_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    context: click.Context, name: str | None, state: Path, run_dir: Path, as_json: bool
) -> None:
    """Check whether this host is ready, and how to fix it.

    Changes nothing. Some checks need root and are skipped without it. Exits with code 1 if a check
    fails. On a server, --peer checks one peer: whether it is registered, what the gateway knows
    about it, and whether this host lets its packets in. On a client, use 'fastun connect FILE
    --check'.

    \b
    Examples:
      fastun doctor
      fastun doctor --peer laptop
      fastun doctor --json
    """  # noqa: D301 (\b is click's mark of a paragraph not to be refilled)
    from fastun.doctor import examination, listing, peer_check  # noqa: PLC0415 (as above)
    from fastun.doctor.finding import Subject  # noqa: PLC0415

    subject = Subject(state, run_dir)
    found = examination.examine(subject) if name is None else peer_check.examine(subject, name)
    context.exit(listing.show(found, as_json=as_json))


cli.add_command(completion)


def _dialling(target: str | None, options: dict[str, Any]) -> ConnectSettings:
    settings = load("connect", target, Options(**options))
    assert isinstance(settings, ConnectSettings)  # noqa: S101 (what load() gives for the role)
    return settings


def _run(role: Role, target: str | None, options: Options) -> None:
    remarks: list[str] = []
    settings = load(role, target, options, remarks.append)
    ending.note()  # an exception that a handler raises is lost where Python calls us back
    # Without what asyncio would like to have: 1 MiB.
    with imports.kept(), imports.without("ssl"):
        from fastun.host.process import forking, messages  # noqa: PLC0415 (not for all commands)

    try:
        reread = functools.partial(load, role, target, options, is_again=True)
        with forking.started(settings, reread) as host:
            if not settings.hooks.of("pre_up"):  # else when they have run
                host.begin(messages.Begin())
            with imports.kept(), imports.without("ssl"):
                from fastun.gateway.run import run  # noqa: PLC0415 (takes 0.1 s)
            run(settings, remarks=remarks, host=host)
    except OSError as error:
        # Here and not in main(): click would take a broken pipe for one on stdout and say nothing.
        raise RuntimeFailure(of_the_system(error)) from error


def main() -> NoReturn:
    """Run the command line, and exit: 0 done or asked to stop, 1 failed, 2 used wrongly.

    Whatever went wrong is one line on stderr; FASTUN_DEBUG=1 shows the traceback instead.
    """
    # Until the gateway has its own handlers: a request to stop is not a failure. SIGINT is click's.
    ending.handle(stop, (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP))
    streams.prepare()
    os.umask(os.umask(0o022) | 0o022)  # others never may write to what is made
    exit_code, line = _called()
    if line:
        # What was given on the command line may be a key, in whatever option.
        line = without_keys(line, " ".join(sys.argv[1:]))
        say_last(f"fastun: {one_line(line)}", exit_code)
    gc.freeze()  # or it would look three times through what ends now, which takes 20 ms
    sys.exit(exit_code)


def _called() -> tuple[int, str]:
    """Run the command line; return its exit code, and the line that says what went wrong."""
    exit_code, line = 0, ""
    try:
        exit_code = cli.main(prog_name="fastun", standalone_mode=False)
    except click.Abort:  # click's word for Ctrl-C.
        exit_code, line = interrupted(sys.argv[1:])
    except Stopped:
        exit_code, line = interrupted(sys.argv[1:])
    except SystemExit as end:  # click's: it has completed a line, or the reader of stdout has gone
        exit_code = end.code if isinstance(end.code, int) else 0
    except Exception as error:  # The last place where it can become one line.
        if os.environ.get("FASTUN_DEBUG"):
            raise
        exit_code, line = explain(error)
    unwritten = streams.finish()
    if unwritten is not None and not line:
        exit_code, line = exit_code or 1, streams.complaint(unwritten)
    return exit_code or 0, line
