"""The command line as a person and a service manager meet it: one line, one exit code."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import click
import pytest

from fastun import __version__, ending
from fastun.command.cli import cli, main
from fastun.config.settings import Options

PLAIN = ("--wire", "plain", "--insecure")
PEER = cli.commands["peer"]
assert isinstance(PEER, click.Group)
ONE = ("status", "top", "capture", "reload", "drain", "disconnect", "key")  # gateway of several

# Stands in for the gateway, to see what is handed to it and to let it fail as no test can make it.
WITH_GATEWAY = """
import errno, os, signal, sys, types
def run(settings, remarks, host):
    {body}
gateway = types.ModuleType("fastun.gateway.run")
gateway.run = run
sys.modules["fastun.gateway.run"] = gateway
from fastun.command.cli import main
main()
"""


def execute(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


def fastun(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return execute("-m", "fastun", *arguments, **environment)


def with_gateway(
    body: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return execute("-c", WITH_GATEWAY.format(body=body), *arguments, **environment)


class Fastun(Protocol):
    """What `fastun` does with these arguments, without a process for each."""

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Fastun]:
    handlers = {number: signal.getsignal(number) for number in ending.SIGNALS}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["fastun", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def only_line(completed: subprocess.CompletedProcess[str]) -> str:
    assert completed.stdout == ""
    assert "Traceback" not in completed.stderr
    (line,) = completed.stderr.splitlines()
    assert line.startswith("fastun: ")
    return line.removeprefix("fastun: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Missing command. (see 'fastun --help')"),
        (["sevre"], "No such command 'sevre'. Did you mean 'serve'?"),
        (["--verison"], "No such option '--verison'. Did you mean '--version'?"),
        (["serve", "--adress", "10.9.0.1/24"], "No such option '--adress'. (Did you mean"),
        (["serve", "--intreface", "tun0"], "Did you mean '--interface'? (see 'fastun serve"),
        (["serve", "--mode", "l2"], "'l2' is not one of 'tun', 'tap'"),
        (["serve", "--mtu", "big"], "'big' is not a valid integer"),
        (["serve", "--interface"], "Option '--interface' requires an argument"),
        (["serve", "tcp://host"], "unexpected extra argument"),
        (["connect", "--listen", "tcp://a"], "No such option '--listen'"),
        (["serve", "--wire", "plain"], "add --insecure"),
        (["serve", *PLAIN, "--interface", "a" * 16], "--interface: 'aaaaaaaaaaaaaaaa' must be"),
        (["serve", *PLAIN, "--address", "10.9.0.1"], "write it as in 10.9.0.1/24"),
        (["serve", *PLAIN, "--config", "/nonexistent"], "cannot read configuration '/nonexistent'"),
        (["connect", *PLAIN], "endpoint: missing"),
        (["peer"], "Missing command. (see 'fastun peer --help')"),
        (["peer", "expire", "laptop", "-3d"], "-3...: no value may begin with '-'"),
        (["peer", "shwo"], "No such command 'shwo'. Did you mean 'show'?"),
        (["peer", "add"], "Missing argument 'NAME'"),
        (["peer", "add", "a b"], "NAME: 'a b' is not a valid peer name"),
        (["peer", "add", "a", "--format", "x"], "'x' is not one of 'toml', 'wg-quick', 'qr'"),
        (["peer", "add", "a", "--endpoint", "a"], "--endpoint: 'a' has no scheme; write tcp://a"),
        (["peer", "add", "a", "--address", "10.9.0.2"], "--address: '10.9.0.2' is not an address"),
        (["peer", "list", "--state", ""], "Invalid value for '--state': is empty; give a path"),
        (["serve", *PLAIN, "--run-dir", ""], "'--run-dir': is empty; give a path"),
        (["peer", "list", "--state", "/dev/null"], "'--state': '/dev/null' is not a directory"),
        (["status", "--run-dir", "/dev/null"], "'--run-dir': '/dev/null' is not a directory"),
        *(([one, "--interface", ""], "'--interface': is empty; give the name") for one in ONE),
        (["grafana", "--out", ""], "'--out': is empty; give a path"),
        (["connect", *PLAIN, "host:443"], "write tcp://host:443"),
        (["connect", *PLAIN, "tcp://host\n\x1b7"], "'host\\n\\x1b7' is not a host name"),
    ],
)
def test_a_slip_is_answered_with_one_line_and_exit_code_2(
    called: Fastun, arguments: list[str], line: str
) -> None:
    completed = called(*arguments)
    assert line in only_line(completed)
    assert completed.returncode == 2


def test_a_misspelled_field_is_answered_with_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[interface]\nadress = ['10.9.0.1/24']\n")
    completed = fastun("serve", "-c", str(path), "--insecure")
    assert only_line(completed) == (
        f"{path}: 'interface.adress': unknown field; did you mean address?"
    )
    assert completed.returncode == 2


def test_the_command_line_alone_loads_no_slow_library() -> None:
    completed = execute("-c", "import sys, fastun.command.cli; print(*sys.modules)")
    loaded = completed.stdout.split()
    assert "fastun.command.cli" in loaded
    assert not {"pyroute2", "nacl", "rich", "sqlite3"} & {*loaded}


def test_the_version_is_printed() -> None:
    completed = fastun("--version")
    assert (completed.returncode, completed.stdout) == (0, f"fastun {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [[], *([name] for name in cli.commands), *(["peer", name] for name in PEER.commands)],
)
def test_help_fits_80_columns_and_shows_how(called: Fastun, command: list[str]) -> None:
    completed = called(*command, "--help")
    assert completed.returncode == 0
    assert max(map(len, completed.stdout.splitlines())) <= 80
    assert "...\n" not in completed.stdout.partition("\nCommands:")[2], "a short help is cut"
    name = " ".join(command)
    assert re.search(rf"^ +.*fastun (serve|connect|{name})", completed.stdout, re.MULTILINE)


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {
        option.name: option
        for option in command.params
        if isinstance(option, click.Option) and option.name
    }


def test_every_command_and_option_has_a_help_text() -> None:
    for command in (*cli.commands.values(), *PEER.commands.values()):
        assert command.help
        for option in options_of(command).values():
            assert option.help, f"{command.name} {option.name}"


def test_serve_and_connect_have_the_same_options_and_all_that_there_are() -> None:
    serve, connect = (options_of(cli.commands[name]) for name in ("serve", "connect"))
    assert set(serve) - {"listen"} == set(connect) - {
        *("check", "kill_switch", "all_traffic", "allow_lan")
    }
    both = {*serve, *connect} - {"check"}
    assert both == {field.name for field in dataclasses.fields(Options)}


def test_the_defaults_in_the_help_are_those_of_the_settings(called: Fastun) -> None:
    text = " ".join(called("serve", "--help").stdout.split())
    for default in ("fastun0", "tun", "wireguard", "127.0.0.1:10055", "1", "console"):
        assert f"[default: {default}]" in text
    for default in ("/var/lib/fastun", "/run/fastun"):
        assert f"[default: {default}]" in text
    assert "[default: 1420 where a link can be UDP, else 1500; TAP: 1500]" in text
    assert "[default: udp://[::]:51820 on the wireguard wire, and tcp://[::]:55555]" in text


def test_the_encrypted_wire_needs_no_option() -> None:
    completed = with_gateway("print(settings.wire, *settings.addresses)", "serve")
    assert (completed.returncode, completed.stdout) == (0, "wireguard 10.55.0.1/24\n")


def test_the_gateway_gets_what_the_command_line_says() -> None:
    completed = with_gateway(
        "print(settings.role, settings.endpoint, *settings.addresses, settings.log.verbosity)",
        *("connect", "tcp://vpn.example.net", *PLAIN, "-vv"),
        *("--address", "10.9.0.2/24", "--address", "fd00:9::2/64"),
    )
    assert completed.stdout == ("connect tcp://vpn.example.net:55555 10.9.0.2/24 fd00:9::2/64 2\n")
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise PermissionError(errno.EPERM, 'Not permitted', '/dev/x')", "/dev/x: Not permitted"),
        ("raise BrokenPipeError(errno.EPIPE, 'Broken pipe')", "Broken pipe"),
        ("raise TimeoutError", "TimeoutError"),
        (
            "from fastun.errors import RuntimeFailure; raise RuntimeFailure('port in use\\nx')",
            r"port in use\nx",
        ),
        ("raise KeyError('x')", "internal error: KeyError: 'x'; FASTUN_DEBUG=1 shows where"),
        ("raise MemoryError", "this host has no memory left"),
        ("raise RuntimeError('can\\'t start new thread')", "raise the limit of processes"),
        ("raise OSError(errno.EMFILE, 'Too many open files')", "raise the limit of open files"),
        ("raise OSError(errno.EFBIG, 'File too large')", "raise the limit of a file's size"),
        ("import fastun.nonexistent", "internal error: ModuleNotFoundError: No module named"),
    ],
)
def test_a_gateway_that_fails_is_one_line_and_exit_code_1(body: str, line: str) -> None:
    completed = with_gateway(body, "serve", *PLAIN)
    assert line in only_line(completed)
    assert completed.returncode == 1


def test_only_fastun_debug_shows_a_traceback() -> None:
    completed = with_gateway("raise KeyError('x')", "serve", *PLAIN, FASTUN_DEBUG="1")
    assert completed.stderr.startswith("Traceback")
    assert completed.returncode == 1


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_to_be_asked_to_stop_before_the_gateway_runs_is_not_a_failure(
    asked: signal.Signals,
) -> None:
    completed = with_gateway(f"os.kill(os.getpid(), {asked.value})", "serve", *PLAIN)
    assert (completed.returncode, completed.stderr.strip()) == (0, "")


def test_a_full_stderr_does_not_keep_a_failure_from_ending() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    done = subprocess.run(
        [sys.executable, "-m", "fastun", "serve", "--mtu", "1"],
        stderr=write_end,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("arguments", [("--help",), ("status", "--help"), ("--version",)])
def test_a_reader_that_leaves_causes_no_traceback(arguments: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    completed = subprocess.run(
        [sys.executable, "-m", "fastun", *arguments],
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write_end)
    assert completed.stderr == b""


EVENT = (
    "from fastun import log; log.configure(*settings.log); "
    "log.get('gateway').{level}('link up', peer='a b\\n', port=1)"
)


def test_an_event_is_one_aligned_line_on_stderr() -> None:
    completed = with_gateway(EVENT.format(level="info"), "serve", *PLAIN)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info    gateway   link up  peer='a b\\n'  port=1\n", completed.stderr
    )


def test_an_event_in_json_has_its_time_in_utc() -> None:
    body = EVENT.format(level="warning")
    completed = with_gateway(body, "serve", *PLAIN, "--log-format", "json")
    event = json.loads(completed.stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "component": "gateway",
        "event": "link up",
        "level": "warning",
        "peer": "a b\n",
        "port": 1,
    }


def test_debug_events_are_for_those_who_ask() -> None:
    body = EVENT.format(level="debug")
    assert with_gateway(body, "serve", *PLAIN).stderr == ""
    assert " debug   gateway   link up" in with_gateway(body, "serve", *PLAIN, "-v").stderr


def test_a_log_without_a_reader_does_not_stop_the_gateway() -> None:
    body = "os.close(2); " + EVENT.format(level="info") + "; print('still here')"
    assert with_gateway(body, "serve", *PLAIN).stdout == "still here\n"


def test_no_directory_that_it_makes_is_for_others_to_write_to(tmp_path: Path) -> None:
    """Also those above the state directory, whatever the umask."""
    state = tmp_path / "a" / "b" / "state"
    program = "import os; os.umask(0); from fastun.command.cli import main; main()"
    execute("-c", program, "peer", "add", "x", "--state", str(state))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state, *state.parents[:2])}
    assert modes == {"state": 0o700, "b": 0o755, "a": 0o755}
