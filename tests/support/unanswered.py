"""A client of a server that never answers: what it changes of its host.

client                         internet
192.0.2.2, fd01::2  ==veth==   192.0.2.1, fd01::1   (the client's default gateway)
wg0 10.9.0.2, fd00:9::2        198.51.100.1 is a server out there that never answers
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.session import keys

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from fastun.lab.host import Host

    Connect = Callable[..., subprocess.Popen[bytes]]

VALID_MARK = "net.ipv4.conf.all.src_valid_mark"
OUT_THERE = "198.51.100.1"
SERVER = keys.format_key(keys.public_of(keys.generate_private()))
INTERFACE = f"""
[Interface]
PrivateKey = {keys.format_key(keys.generate_private())}
Address = 10.9.0.2/24, fd00:9::2/64
"""
PEER = f"""
[Peer]
PublicKey = {SERVER}
Endpoint = {OUT_THERE}:51820
"""
ALL = "AllowedIPs = 0.0.0.0/0, ::/0\n"
SOME = "AllowedIPs = 10.7.0.0/16, 10.9.0.0/24, 10.7.1.0/24, fd00:7::/64\n"
RULES = {
    "-4": ["0: local", "32766: main", "32767: default"],
    "-6": ["0: local", "32766: main"],
}
LEADING = ["32764: main suppress_prefixlength 0", "32765: not fwmark 51820 51820"]


def with_addresses(addresses: str) -> str:
    """Return the file's `[Interface]` with other addresses."""
    assert "10.9.0.2/24, fd00:9::2/64" in INTERFACE
    return INTERFACE.replace("10.9.0.2/24, fd00:9::2/64", addresses)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(10) == 0


def rules(host: Host, family: str) -> list[str]:
    """Return the rules in short: priority, what is not any packet, table."""
    found = []
    for line in host.ip(family, "-N", "rule").splitlines():
        words = [
            str(int(word, 16)) if word.startswith("0x") else word
            for word in line.replace("255", "local").replace("253", "default").split()
            if word not in ("from", "all", "lookup", "proto", "157")
        ]
        found.append(" ".join("main" if word == "254" else word for word in words))
    return found


def way(host: Host, *to: str) -> str:
    """Return the device that a packet would leave by."""
    words = host.ip("route", "get", *to).split()
    return words[words.index("dev") + 1]


def routes(host: Host, family: str, device: str = "wg0") -> list[str]:
    lines = host.ip(family, "route", "show", "dev", device, "proto", "157").splitlines()
    return [line.split()[0] for line in lines]


def warned(directory: Path, name: str = "wg0") -> list[str]:
    text = (directory / f"{name}.log").read_text()
    return [line for line in text.splitlines() if " warning " in line]
