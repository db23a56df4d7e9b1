"""fastun on one host, wireguard-go on another.

ours                                     theirs
fastun, ft0 10.99.0.1, fd99::1           wireguard-go, wg0-PID 10.99.0.2, fd99::2
   to-theirs 10.0.0.1, fd00::1 ==veth==  to-ours 10.0.0.2, fd00::2
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import GatewayProcess, start_gateway
from tests.netns.test_sessions import COMPRESSED
from tests.support.wireguard_go import Identity, WireGuardGo, skip_where_missing
from tests.support.wireguard_messages import MessageCounters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

OURS, THEIRS = {4: "10.0.0.1", 6: "fd00::1"}, {4: "10.0.0.2", 6: "fd00::2"}
OUR_INNER, THEIR_INNER = ("10.99.0.1", "fd99::1"), ("10.99.0.2", "fd99::2")
OUR_CIDRS, THEIR_CIDRS = ("10.99.0.1/24", "fd99::1/64"), ("10.99.0.2/24", "fd99::2/64")
OUR_PREFIXES, THEIR_PREFIXES = ("10.99.0.1/32", "fd99::1/128"), ("10.99.0.2/32", "fd99::2/128")
PORT = 51820
NAME = "wireguard-go"


def host_port(host: str, port: int = PORT) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Interop:
    """The two hosts, wireguard-go without a peer, and fastun when it is started."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.ours, self.theirs = lab.host("ours"), lab.host("theirs")
        lab.wire(
            self.ours,
            self.theirs,
            [f"{OURS[4]}/24", f"{OURS[6]}/64"],
            [f"{THEIRS[4]}/24", f"{THEIRS[6]}/64"],
        )
        self.identity, self.peer_identity = Identity(), Identity()
        self.messages = MessageCounters(self.theirs, "to-ours")
        self.peer = WireGuardGo(self.theirs, directory, THEIR_CIDRS)
        self._directory = directory
        self._gateway: GatewayProcess | None = None

    @property
    def gateway(self) -> GatewayProcess:
        assert self._gateway is not None, "fastun was not started"
        return self._gateway

    # -- fastun begins ------------------------------------------------------------------------

    def connect(self, *, psk: str = "", outer: int = 4, is_toml: bool = True) -> GatewayProcess:
        """Let both be configured, and fastun dial. Where fastun is, wireguard-go is not given."""
        self.let_dial(psk=psk)
        return self.dial(psk=psk, outer=outer, is_toml=is_toml)

    def let_dial(self, *, psk: str = "") -> None:
        """Have wireguard-go wait for fastun."""
        interface = [f"PrivateKey = {self.peer_identity.private_key}", f"ListenPort = {PORT}"]
        self.peer.configure(_wg_file(interface, self._as_their_peer(psk)))

    def dial(self, *, psk: str = "", outer: int = 4, is_toml: bool = True) -> GatewayProcess:
        """Start `fastun connect`, with a file of either kind."""
        endpoint = host_port(THEIRS[outer])
        if is_toml:
            return self._start("connect", self._toml_file(f"udp://{endpoint}", psk))
        interface = [f"PrivateKey = {self.identity.private_key}"]
        peer = _wg_peer(self.peer_identity, THEIR_PREFIXES, psk, endpoint)
        return self._start("connect", _wg_file(interface, peer), suffix="conf")

    def dial_by_both_families(self) -> GatewayProcess:
        """Start `fastun connect` with both addresses of wireguard-go, IPv6 first."""
        urls = ", ".join(f'"udp://{host_port(THEIRS[outer])}"' for outer in (6, 4))
        return self._start("connect", f"{self._toml_file()}endpoints = [{urls}]\n")

    # -- wireguard-go begins ------------------------------------------------------------------

    def serve(self, *, has_peer: bool = True) -> GatewayProcess:
        """Start `fastun serve`, with a file that has the peer, or has none yet."""
        text = self._toml_file()
        gateway = self._start("serve", text if has_peer else text.partition("[[peer]]")[0])
        wait_until(lambda: self.ours.listens(PORT, udp=True), "fastun listens", timeout_s=15)
        return gateway

    def let_begin(self, outer: int = 4) -> None:
        """Tell wireguard-go of fastun."""
        interface = [f"PrivateKey = {self.peer_identity.private_key}"]
        self.peer.configure(_wg_file(interface, self._as_their_peer("", host_port(OURS[outer]))))

    def let_join(self, outer: int = 4) -> None:
        """Have `fastun peer add` make a file, with keys and a pre-shared key, for wireguard-go."""
        home = self.gateway.log_file.parent
        # fmt: off
        done = self.ours.run(
            sys.executable, "-m", "fastun", "peer", "add", NAME, "--format", "wg-quick",
            "--endpoint", f"udp://{host_port(OURS[outer])}", "--state", str(home),
        )
        # fmt: on
        self.peer.configure(done.stdout)

    # -- both ---------------------------------------------------------------------------------

    def wait_up(self, source: Host, address: str, timeout_s: float = 20.0) -> None:
        wait_until(lambda: answers_ping(source, address), "the tunnel", timeout_s=timeout_s)

    def end(self) -> None:
        """End both; fastun must not fail."""
        self.peer.stop()
        if self._gateway is not None:
            assert self._gateway.stop() == 0

    def print_logs(self) -> None:
        print("--- wireguard-go", *self.peer.log().splitlines()[-40:], sep="\n")  # noqa: T201 (pytest shows it on failure)
        if self._gateway is not None:
            print("--- fastun", *self._gateway.log_tail(40), sep="\n")  # noqa: T201

    def _as_their_peer(self, psk: str, endpoint: str = "") -> list[str]:
        return _wg_peer(self.identity, OUR_PREFIXES, psk, endpoint)

    def _toml_file(self, endpoint: str = "", psk: str = "") -> str:
        prefixes = ", ".join(f'"{prefix}"' for prefix in THEIR_PREFIXES)
        lines = ["[interface]", f'private_key = "{self.identity.private_key}"', "[[peer]]"]
        lines += [f'name = "{NAME}"', f'public_key = "{self.peer_identity.public_key}"']
        lines += [f"allowed_ips = [{prefixes}]"]
        lines += [f'preshared_key = "{psk}"'] if psk else []
        lines += [f'endpoint = "{endpoint}"'] if endpoint else []
        return "\n".join(lines) + "\n"

    def _start(self, role: str, text: str, suffix: str = "toml") -> GatewayProcess:
        # A wg-quick file does not name its peer, which is then called as the file is.
        file = self._directory / f"{NAME}.{suffix}"
        file.touch(mode=0o600)
        file.write_text(text)
        arguments = ["-c", str(file)] if role == "serve" else [str(file)]
        # fmt: off
        self._gateway = start_gateway(
            self.ours, self._directory, role, *arguments, "-v",
            wire="wireguard", addresses=OUR_CIDRS,
        )
        # fmt: on
        return self._gateway


def _wg_peer(identity: Identity, prefixes: tuple[str, ...], psk: str, endpoint: str) -> list[str]:
    lines = [f"PublicKey = {identity.public_key}", f"AllowedIPs = {', '.join(prefixes)}"]
    lines += [f"PresharedKey = {psk}"] if psk else []
    return lines + ([f"Endpoint = {endpoint}"] if endpoint else [])


def _wg_file(interface: list[str], peer: list[str]) -> str:
    return "\n".join(["[Interface]", *interface, "[Peer]", *peer]) + "\n"


@pytest.fixture
def interop(lab: Lab, tmp_path: Path) -> Iterator[Interop]:
    skip_where_missing()
    both = Interop(lab, tmp_path)
    yield both
    both.print_logs()
    both.end()


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fastun rekey every 0.15 s, and try a handshake again after 0.1 s."""
    monkeypatch.setattr(tunnel, "FASTUN", COMPRESSED)
