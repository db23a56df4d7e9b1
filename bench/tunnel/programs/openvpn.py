"""OpenVPN 2.5 or later over UDP or TCP: TLS with two self-signed certificates, AES-256-GCM.

Kernel buffers are left to the kernel (sndbuf and rcvbuf 0), and the offload module is not used:
the case is the program itself.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.tunnel.addresses import INNER, OUTER
from bench.tunnel.pair import Pair

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host

PORT = 1194
DEVICE = "ov0"


def start(pair: Pair, *, protocol: str) -> None:
    """Start both ends; `protocol` is "udp" or "tcp"."""
    fingerprints = {host: _make_certificate(pair.directory, pair.role(host)) for host in pair.hosts}
    others = {pair.server: pair.client, pair.client: pair.server}
    options = {
        host: _options(pair, host, protocol, fingerprints[others[host]]) for host in pair.hosts
    }
    pair.spawn(pair.server, "openvpn", *options[pair.server])
    pair.wait_listening(PORT, udp=protocol == "udp")
    pair.spawn(pair.client, "openvpn", *options[pair.client])


def _options(pair: Pair, host: Host, protocol: str, fingerprint: str) -> list[str]:
    own, other = INNER if host is pair.server else reversed(INNER)
    role = pair.role(host)
    # fmt: off
    options = [
        "--dev", DEVICE, "--dev-type", "tun",
        "--ifconfig", own.bare_v4, other.bare_v4,
        "--ifconfig-ipv6", own.v6, other.bare_v6,
        "--port", str(PORT), "--proto", "udp" if protocol == "udp" else f"tcp-{role}",
        "--cert", str(pair.directory / f"{role}.crt"),
        "--key", str(pair.directory / f"{role}.key"),
        "--peer-fingerprint", fingerprint, f"--tls-{role}", "--dh", "none",
        "--data-ciphers", "AES-256-GCM", "--disable-dco",
        "--sndbuf", "0", "--rcvbuf", "0",
    ]
    # fmt: on
    options += ["--remote", OUTER.server.bare_v4] if role == "client" else []
    return [*options, *(["--fast-io"] if protocol == "udp" else ["--socket-flags", "TCP_NODELAY"])]


def _make_certificate(directory: Path, role: str) -> str:
    """Write `role`'s key and certificate, valid for a day; return its SHA-256 as OpenVPN has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, role)])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / f"{role}.crt").write_bytes(certificate.public_bytes(pem))
    key_file = directory / f"{role}.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate.fingerprint(hashes.SHA256()).hex(":")
