"""The network-namespace laboratory of the demo, the tests and the benchmarks.

    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        lab.wire(client, server, ["10.0.0.1/24"], ["10.0.0.2/24"])
        client.run("ping", "-c1", "10.0.0.2")

A host is a namespace named ``ft-PID-N-NAME``: PID is this process, so that the next
laboratory can tell which namespaces a killed one left behind; N tells the laboratories
of one process apart. Leaving the ``with`` block ends every process in every host and
removes the namespaces, whether it is left by an exception, SIGINT, SIGTERM, SIGHUP or SIGQUIT.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import signal
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fastun.lab.host import NAMESPACE_DIR, Host, run_command, stop_processes, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType, TracebackType

    _Handler = Callable[[int, FrameType | None], object] | int | None

TUN_DEVICE = Path("/dev/net/tun")
# BBR, the default of some machines, paces itself slow on veth: figures would measure the pacing.
CONGESTION_CONTROL = "cubic"
# The list that namespaces choose from; it can be written in the initial namespace only.
ALLOWED_ALGORITHMS = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}  # linux/capability.h
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_serial = itertools.count()


def missing_capability() -> str | None:
    """Name what this process lacks for a laboratory with tunnels, or None if nothing."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = int(re.findall(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[0], 16)
    for name, bit in _CAPABILITIES.items():
        if not effective >> bit & 1:
            return f"{name} (run as root)"
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        return f"{TUN_DEVICE} (readable and writable)"
    return None


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair: the device names on its two ends."""

    a_device: str
    b_device: str


class Lab:
    """Hosts and the wires between them, removed at the end of the ``with`` block."""

    def __init__(self) -> None:
        """Prepare an empty laboratory; nothing is made before the ``with`` block."""
        self.hosts: list[Host] = []
        #: The TCP congestion control of the hosts; CONGESTION_CONTROL unless that is refused.
        self.congestion_control = ""
        self._prefix = f"ft-{os.getpid()}-{next(_serial)}-"
        self._handlers: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Self:
        """Clear what killed laboratories left, and let ending signals unwind the stack."""
        clear_stale_namespaces()
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes, SIGTERM first, and remove the namespaces."""
        with _signals_ignored():
            stop_processes(self.hosts)
            for host in self.hosts:
                _remove_namespace(host.namespace)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def host(self, name: str) -> Host:
        """Add a host: a namespace with lo up, IPv6 without duplicate detection, and cubic."""
        host = Host(name, self._prefix + name)
        self.hosts.append(host)  # first, so that a half-made namespace is removed as well
        run_command("ip", "netns", "add", host.namespace)
        host.ip("link", "set", "lo", "up")
        if Path("/proc/sys/net/ipv6").exists():
            for scope in ("all", "default"):
                host.sysctl(f"net.ipv6.conf.{scope}.accept_dad", 0)
        with _algorithm_allowed(CONGESTION_CONTROL), contextlib.suppress(OSError):
            host.sysctl("net.ipv4.tcp_congestion_control", CONGESTION_CONTROL)
        current = Path("/proc/sys/net/ipv4/tcp_congestion_control")
        self.congestion_control = host.inside(current.read_text).strip()
        return host

    def wire(
        self,
        a: Host,
        b: Host,
        a_addresses: Sequence[str] = (),
        b_addresses: Sequence[str] = (),
        *,
        mtu: int = 1500,
    ) -> Cable:
        """Join two hosts by a veth pair; addresses are CIDR texts of IPv4 or IPv6.

        The device in `a` is called ``to-B`` and the one in `b` ``to-A``, cut to 15 characters.
        """
        cable = Cable(f"to-{b.name}"[:15], f"to-{a.name}"[:15])
        # fmt: off
        run_command(
            "ip", "link", "add", cable.a_device, "netns", a.namespace, "mtu", str(mtu),
            "type", "veth", "peer", "name", cable.b_device, "netns", b.namespace, "mtu", str(mtu),
        )
        # fmt: on
        ends = ((a, cable.a_device, a_addresses), (b, cable.b_device, b_addresses))
        for host, device, addresses in ends:
            for address in addresses:
                nodad = ("nodad",) if ":" in address else ()
                host.ip("address", "add", address, "dev", device, *nodad)
            host.ip("link", "set", device, "up")
        if any(":" in address for address in (*a_addresses, *b_addresses)):
            for host, device, _ in ends:
                wait_until(partial(_takes_multicast, host, device), f"IPv6 on {device}")
        return cable


def _takes_multicast(host: Host, device: str) -> bool:
    """Whether IPv6 knows that the carrier is there, which it learns up to a second late.

    Until then neighbour solicitations are lost, and the first packet waits for the second one.
    """
    return bool(
        host.ip("-6", "route", "show", "table", "local", "type", "multicast", "dev", device)
    )


def clear_stale_namespaces() -> None:
    """Remove the namespaces of laboratories whose process is gone, and what runs in them."""
    if not NAMESPACE_DIR.is_dir():
        return
    for path in NAMESPACE_DIR.iterdir():
        match = re.match(r"ft-(\d+)-", path.name)
        if match and not Path("/proc", match[1]).exists():
            _remove_namespace(path.name)


def _remove_namespace(namespace: str) -> None:
    """End what runs in a namespace and delete it; one that is gone already is fine."""
    pids = run_command("ip", "netns", "pids", namespace, check=False).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run_command("ip", "netns", "delete", namespace, check=False)


@contextlib.contextmanager
def _algorithm_allowed(name: str) -> Iterator[None]:
    """Let namespaces choose a congestion control meanwhile; a chosen one stays after that.

    The list is the machine's, so it is put back at once; the lock keeps laboratories that
    start at the same time from putting back each other's list. Without the right to write
    it, nothing is changed.
    """
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):
            file = undo.enter_context(ALLOWED_ALGORITHMS.open("r+", encoding="ascii"))
            fcntl.flock(file, fcntl.LOCK_EX)
            allowed = file.read()
            if name not in allowed.split():
                ALLOWED_ALGORITHMS.write_text(f"{allowed.strip()} {name}\n", encoding="ascii")
                undo.callback(ALLOWED_ALGORITHMS.write_text, allowed, encoding="ascii")
        yield


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Keep a second Ctrl-C from cutting the removal short, which takes two seconds at most."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *_ENDING_SIGNALS)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Make an ending signal unwind the stack; pytest, too, stops at KeyboardInterrupt."""
    raise KeyboardInterrupt(signal.Signals(number).name)
