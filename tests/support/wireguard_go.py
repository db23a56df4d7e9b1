"""A peer that the real wireguard-go runs, configured and read by the real wg.

    device wg0-PID  <===>  wireguard-go -f wg0-PID  <=== UDP ===>
                                |
    wg set, wg show  <===>  /var/run/wireguard/wg0-PID.sock

That directory belongs to the machine, not to the namespace, so each device has a name of its own.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastun.lab.host import Host

# The programs, and the Debian packages that have them.
PROGRAMS = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}
SOCKET_DIR = Path("/var/run/wireguard")
MTU = 1420

_serial = itertools.count()


def skip_where_missing() -> None:
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian package {package})")


def wg(command: str, text: str = "") -> str:
    """Run a command of wg that is about keys."""
    done = subprocess.run(("wg", command), input=text, text=True, capture_output=True, check=True)
    return done.stdout.strip()


@dataclass(frozen=True)
class Identity:
    """One side's key pair, as wg makes it."""

    private_key: str = field(default_factory=lambda: wg("genkey"), repr=False)

    @property
    def public_key(self) -> str:
        return wg("pubkey", self.private_key)


@dataclass(frozen=True)
class PeerShown:
    """What `wg show DEVICE dump` says of a peer."""

    endpoint: str
    latest_handshake: int  # Unix time, 0 for never
    received_bytes: int
    sent_bytes: int


class WireGuardGo:
    """One wireguard-go with one device and one peer. It ends with its host's laboratory."""

    def __init__(self, host: Host, directory: Path, addresses: Sequence[str]) -> None:
        """Start it; the device is up and has `addresses`, but there are no keys yet."""
        self.host = host
        self.device = f"wg{next(_serial)}-{os.getpid()}"
        self._log_file = directory / f"{self.device}.log"
        self._file = directory / f"{self.device}.conf"
        with self._log_file.open("ab") as log:
            # fmt: off
            self.process = host.spawn(
                "wireguard-go", "-f", self.device, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "LOG_LEVEL": "verbose"},
            )
            # fmt: on
        wait_until((SOCKET_DIR / f"{self.device}.sock").exists, "wireguard-go's socket")
        host.ip("link", "set", self.device, "mtu", str(MTU), "up")
        for address in addresses:
            nodad = ("nodad",) if ":" in address else ()
            host.ip("address", "add", address, "dev", self.device, *nodad)

    def stop(self) -> None:
        """End it; its device and its socket go with it."""
        self.process.terminate()
        self.process.wait(5)

    # -- settings -----------------------------------------------------------------------------

    def configure(self, text: str) -> None:
        """Be what a file says that wg(8) or wg-quick(8) takes; the latter's own fields are cut."""
        self._file.touch(mode=0o600)
        self._file.write_text(text)
        stripped = self.host.run("wg-quick", "strip", str(self._file)).stdout
        self._file.write_text(stripped)
        self._wg("setconf", str(self._file))

    def begin_anew(self) -> None:
        """Forget the peer and its sessions, and know it again."""
        self._wg("set", "peer", self._wg("show", "peers").strip(), "remove")
        self._wg("addconf", str(self._file))

    def listen(self, port: int) -> None:
        self._wg("set", "listen-port", str(port))

    def _wg(self, command: str, *arguments: str) -> str:
        return self.host.run("wg", command, self.device, *arguments).stdout

    # -- what it says -------------------------------------------------------------------------

    def show(self) -> PeerShown:
        """Return its view of the peer (wg(8), dump: a line for the device, then one a peer)."""
        fields = self._wg("show", "dump").splitlines()[1].split("\t")
        _, _, endpoint, _, handshake, received, sent, _ = fields
        return PeerShown(endpoint, int(handshake), int(received), int(sent))

    def log(self) -> str:
        return self._log_file.read_text(encoding="utf-8", errors="replace")
