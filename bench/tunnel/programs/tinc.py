"""tinc 1.0 in router mode, as its manual sets it up; ciphers are tinc's own choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.tunnel.addresses import INNER, OUTER
from bench.tunnel.pair import Pair

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host

DEVICE = "tinc0"
PORT = 655
RSA_BITS = 2048


def start(pair: Pair) -> None:
    """Start both ends, and give their devices addresses."""
    host_files = {pair.role(host): _make_keys(pair, host) for host in pair.hosts}
    for host in pair.hosts:
        _write_files(_home(pair, host), pair.role(host), host_files)
    for host in pair.hosts:
        home = _home(pair, host)
        # fmt: off
        pair.spawn(host, "tincd", "--no-detach", "--config", str(home),
                   "--pidfile", str(home / "pid"))
        # fmt: on
        if host is pair.server:
            pair.wait_listening(PORT, udp=False)
    for host in pair.hosts:
        pair.configure_device(host, DEVICE)


def _home(pair: Pair, host: Host) -> Path:
    return pair.directory / pair.role(host)


def _make_keys(pair: Pair, host: Host) -> str:
    """Write the private key; return the host file, which tells the other end what to know."""
    home = _home(pair, host)
    (home / "hosts").mkdir(parents=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    file = home / "rsa_key.priv"
    file.touch(mode=0o600)
    pem = serialization.Encoding.PEM
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    file.write_bytes(key.private_bytes(pem, traditional, serialization.NoEncryption()))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.PKCS1).decode()
    inner = INNER.server if host is pair.server else INNER.client
    subnets = f"Subnet = {inner.bare_v4}/32\nSubnet = {inner.bare_v6}/128\n"
    address = f"Address = {OUTER.server.bare_v4}\n" if host is pair.server else ""
    return f"{address}{subnets}{public}"


def _write_files(home: Path, role: str, host_files: dict[str, str]) -> None:
    dials = "ConnectTo = server\n" if role == "client" else ""
    configuration = f"Name = {role}\nInterface = {DEVICE}\nAddressFamily = ipv4\n{dials}"
    (home / "tinc.conf").write_text(configuration, encoding="utf-8")
    for name, text in host_files.items():
        (home / "hosts" / name).write_text(text, encoding="utf-8")
