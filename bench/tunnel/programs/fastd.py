"""fastd in tun mode with the method that its documentation recommends for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.tunnel.addresses import OUTER
from bench.tunnel.pair import Pair
from fastun.lab.host import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host

PORT = 10000
DEVICE = "fd0"
METHOD = "salsa2012+umac"
# Room for fastd's own header of 24 bytes and the outer IPv4 and UDP headers in 1500.
MTU = 1426


def start(pair: Pair) -> None:
    """Start both ends, and give their devices addresses."""
    for host in pair.hosts:
        _write_secret(pair, host)
    public = {host: _public_key(pair, host) for host in pair.hosts}
    others = {pair.server: pair.client, pair.client: pair.server}
    for host in pair.hosts:
        _write_configuration(pair, host, public[others[host]])
    for host in pair.hosts:
        pair.spawn(host, "fastd", "--config", str(_file(pair, host, "conf")))
        if host is pair.server:
            pair.wait_listening(PORT, udp=True)
    for host in pair.hosts:
        pair.configure_device(host, DEVICE)


def _file(pair: Pair, host: Host, suffix: str) -> Path:
    return pair.directory / f"{pair.role(host)}.{suffix}"


def _write_secret(pair: Pair, host: Host) -> None:
    secret = run_command("fastd", "--machine-readable", "--generate-key").stdout.strip()
    file = _file(pair, host, "secret")
    file.touch(mode=0o600)
    file.write_text(f'secret "{secret}";\n', encoding="utf-8")


def _public_key(pair: Pair, host: Host) -> str:
    file = str(_file(pair, host, "secret"))
    return run_command("fastd", "--machine-readable", "--show-key", "--config", file).stdout.strip()


def _write_configuration(pair: Pair, host: Host, others_key: str) -> None:
    serves = host is pair.server
    bound = OUTER.server.bare_v4 if serves else "any"
    remote = "" if serves else f"remote {OUTER.server.bare_v4}:{PORT};"
    _file(pair, host, "conf").write_text(
        f'include "{_file(pair, host, "secret")}";\n'
        f'mode tun; interface "{DEVICE}"; mtu {MTU};\n'
        f'method "{METHOD}"; secure handshakes yes;\n'
        f"bind {bound}:{PORT};\n"
        f'peer "other" {{ key "{others_key}"; {remote} }}\n',
        encoding="utf-8",
    )
