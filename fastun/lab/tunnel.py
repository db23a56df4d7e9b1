"""A tunnel in the laboratory: `fastun serve` on one host, `fastun connect` on another.

server host                         client host
ft0 10.99.0.1, fd99::1              ft0 10.99.0.2, fd99::2
  |                                   |
fastun serve  <==== one link ====>  fastun connect
  |  tcp 55555, udp 51820             |
veth ============ wire ============ veth
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from prometheus_client.parser import text_string_to_metric_families

from fastun.errors import RuntimeFailure
from fastun.lab.host import Host, LabError, wait_until
from fastun.lab.traffic import answers_ping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# How fastun is called.
FASTUN: tuple[str, ...] = (sys.executable, "-m", "fastun")
INTERFACE = "ft0"
PORT = 55555
UDP_PORT = 51820
METRICS_PORT = 10055
SERVER_ADDRESSES = ("10.99.0.1/24", "fd99::1/64")
CLIENT_ADDRESSES = ("10.99.0.2/24", "fd99::2/64")
# A gateway and its four workers are five Python interpreters to start, on two hosts at once.
START_TIMEOUT_S = 15.0
# A gateway ends within two seconds, and whatever hangs within these.
STOP_TIMEOUT_S = 15.0

Transport = Literal["tcp", "udp", "both"]


class GatewayFailed(RuntimeFailure):
    """A gateway did not start or ended early. `log_lines` are the last ones that it wrote."""

    def __init__(self, message: str, log_lines: Sequence[str]) -> None:
        """Keep the lines apart from the message, which is one line."""
        super().__init__(message)
        self.log_lines = log_lines


class Scrape(dict[str, float]):
    """The samples of one scrape: ``name{label="value",…}`` with sorted labels, and its value."""

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of `name` that carry all of `labels`; KeyError if there are none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        matching = [
            value
            for sample, value in self.items()
            if sample.partition("{")[0] == name
            and wanted <= set(sample.partition("{")[2].removesuffix("}").split(","))
        ]
        if not matching:
            raise KeyError(name, labels)
        return sum(matching)

    def dropped(self) -> float:
        """Sum the dropped packets, less those that no peer is to get and those of CoDel.

        On a sealed wire the former are the multicasts by which the host's IPv6 greets its new
        device; the latter come whenever the machine is slow.
        """
        name = "fastun_dropped_packets_total"
        expected = [self.total(name, reason=reason) for reason in ("no_peer", "queue_delay")]
        return self.total(name) - sum(expected)


@dataclass(eq=False, slots=True)
class GatewayProcess:
    """One running `fastun serve` or `fastun connect` and where to find what it made."""

    host: Host
    process: subprocess.Popen[bytes]
    log_file: Path
    addresses: tuple[str, ...]
    interface: str = INTERFACE
    metrics_port: int = METRICS_PORT
    #: Set by `stop`: a gateway that ends without having been asked to has failed.
    asked_to_stop: bool = field(default=False)

    @property
    def role(self) -> str:
        """Either `serve` or `connect`."""
        return self.log_file.stem

    @property
    def inner_address(self) -> str:
        """The first address inside the tunnel, without its prefix length."""
        return self.addresses[0].partition("/")[0]

    @property
    def inner_address_v6(self) -> str:
        """The first IPv6 address inside the tunnel, without its prefix length."""
        return next(text for text in self.addresses if ":" in text).partition("/")[0]

    def log_tail(self, n_lines: int = 8) -> list[str]:
        """Return the last lines of what the gateway has written to stdout and stderr."""
        return self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-n_lines:]

    def check_alive(self) -> None:
        """Raise GatewayFailed if the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise GatewayFailed(f"fastun {self.role} ended with code {code}", self.log_tail())

    def get(self, path: str, *, accept: str = "*/*", timeout_s: float = 2.0) -> tuple[int, str]:
        """Fetch a path from the metrics address: HTTP status and body. LabError if it fails."""
        port = self.metrics_port
        try:
            with self.host.socket() as connection:
                connection.settimeout(timeout_s)
                connection.connect(("127.0.0.1", port))
                client = http.client.HTTPConnection("127.0.0.1", port)
                client.sock = connection
                client.request("GET", path, headers={"Accept": accept})
                response = client.getresponse()
                return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"port {port} of fastun {self.role}: GET {path}: {error}") from error

    def scrape(self) -> Scrape:
        """Read /metrics."""
        status, text = self.get("/metrics")
        if status != http.HTTPStatus.OK:
            raise LabError(f"/metrics of fastun {self.role} answers {status}")
        samples = Scrape()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{key}="{sample.labels[key]}"' for key in sorted(sample.labels))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def stop(
        self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = STOP_TIMEOUT_S
    ) -> int:
        """Send a signal and return the exit code; GatewayFailed if it takes too long."""
        self.asked_to_stop = True
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            message = f"fastun {self.role} did not end within {timeout_s:g} s of {number.name}"
            raise GatewayFailed(message, self.log_tail()) from error
        if code:  # for whoever finds it unexpected
            lines = (f"fastun {self.role} ended with code {code}:", *self.log_tail(20))
            sys.stderr.write("\n".join((*lines, "")))
        return code


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The two gateways of one tunnel."""

    server: GatewayProcess
    client: GatewayProcess

    def wait_up(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the server's inner addresses answer the client; GatewayFailed if not."""
        for address in self.server.addresses:
            self._wait_answer(address.partition("/")[0], timeout_s)

    def _wait_answer(self, address: str, timeout_s: float) -> None:
        def answers() -> bool:
            self.server.check_alive()
            self.client.check_alive()
            return answers_ping(self.client.host, address)

        try:
            wait_until(answers, f"ping of {address} through the tunnel", timeout_s=timeout_s)
        except LabError as error:
            lines = [*self.server.log_tail(4), *self.client.log_tail(4)]
            raise GatewayFailed(str(error), lines) from error


def start_gateway(
    host: Host,
    directory: Path,
    role: str,
    *arguments: str,
    wire: str = "plain",
    mode: str = "tun",
    addresses: Sequence[str] = (),
    interface: str = INTERFACE,
    program: Sequence[str] = (),
    stderr: int = subprocess.STDOUT,
) -> GatewayProcess:
    """Start `fastun ROLE` on a host. Its log, state and socket go to `directory`/HOST.

    The log goes to `stderr` where that is a descriptor; `program` is another fastun than this one.
    """
    home = directory / host.name
    home.mkdir(exist_ok=True)
    command = [*(program or FASTUN), role, *arguments]
    command += ["-i", interface, "--mode", mode, "--wire", wire]
    command += [] if wire == "wireguard" else ["--insecure"]
    for address in addresses:
        command += ["--address", address]
    command += ["--state", str(home), "--run-dir", str(home)]
    command += ["--metrics", f"127.0.0.1:{METRICS_PORT}"]
    log_file = home / f"{role}.log"
    with log_file.open("ab") as log:
        process = host.spawn(*command, stdout=log, stderr=stderr)
    return GatewayProcess(host, process, log_file, tuple(addresses), interface)


def endpoints(outer_address: str, transport: Transport = "tcp") -> list[str]:
    """Return the URLs of a server at `outer_address`."""
    outer = f"[{outer_address}]" if ":" in outer_address else outer_address
    urls = {"udp": f"udp://{outer}:{UDP_PORT}", "tcp": f"tcp://{outer}:{PORT}"}
    return [url for scheme, url in urls.items() if transport in (scheme, "both")]


def add_peer(
    server: GatewayProcess, name: str, outer_address: str, transport: Transport = "tcp"
) -> Path:
    """Add a client to a serving gateway; return the file that `fastun connect` takes."""
    named = [word for url in endpoints(outer_address, transport) for word in ("--endpoint", url)]
    home = server.log_file.parent
    wait_until((home / "peers.sqlite").exists, "the peer directory", timeout_s=START_TIMEOUT_S)
    command = [sys.executable, "-m", "fastun", "peer", "add", name, *named, "--state", str(home)]
    done = server.host.run(*command)
    file = home / f"{name}.toml"
    file.touch(mode=0o600)
    file.write_text(done.stdout, encoding="utf-8")
    return file


def start_tunnel(
    server: Host,
    client: Host,
    outer_address: str,
    directory: Path,
    *,
    wire: str = "wireguard",
    mode: str = "tun",
    transport: Transport = "tcp",
    server_arguments: Sequence[str] = (),
    client_arguments: Sequence[str] = (),
    program: Sequence[str] = (),
) -> Tunnel:
    """Start both ends of a tunnel to `outer_address` of `server`; see `Tunnel.wait_up`.

    `program` is another fastun than this one.
    """
    urls = endpoints(outer_address, transport)
    listen = [word for url in urls for word in ("--listen", url)]
    # fmt: off
    serving = start_gateway(server, directory, "serve", *listen, *server_arguments,
                            wire=wire, mode=mode, addresses=SERVER_ADDRESSES, program=program)
    target = urls[0]
    if wire == "wireguard":
        target = str(add_peer(serving, "client", outer_address, transport))
    connecting = start_gateway(client, directory, "connect", target, *client_arguments,
                               wire=wire, mode=mode, addresses=CLIENT_ADDRESSES,
                               program=program)
    # fmt: on
    return Tunnel(serving, connecting)
