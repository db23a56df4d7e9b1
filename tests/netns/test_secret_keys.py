"""Where the keys of a session are while it lives, as a debugger with root's rights finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from fastun.lab.host import wait_until
from fastun.native import ROLES, KeyRegion
from fastun.native.library import ffi, lib
from tests.netns.test_status import status
from tests.support.known_at import add_known_peer
from tests.support.memory_search import mappings_with
from tests.support.processes import worker_pid
from tests.support.roaming_client import RoamingClient, udp_packet

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess
    from fastun.native.secrets import Secret
    from tests.conftest import StartTunnel


def has_secret_memory() -> bool:
    region = KeyRegion.create(secret=True)
    try:
        return region.is_secret
    finally:
        region.close()


def bytes_of(secret: Secret) -> bytes:
    """Return what no Python object in fastun has."""
    return bytes(ffi.buffer(lib.secret_bytes(secret.pointer), 32))


def forms_of(key: bytes) -> list[bytes]:
    """The directional key, and the one that AES-256-GCM has of it."""
    return [key, HKDFExpand(hashes.BLAKE2s(32), 32, info=b"fastun v1 aes-256-gcm").derive(key)]


def receives_from(peer: str, gateway: GatewayProcess) -> bool:
    return gateway.scrape().total("fastun_peer_receive_packets_total", peer=peer) > 0


def processes_of(gateway: GatewayProcess) -> dict[str, int]:
    return {"gateway": gateway.process.pid, **{role: worker_pid(gateway, role) for role in ROLES}}


@pytest.mark.parametrize("is_secret", [True, False], ids=["secret", "locked"])
def test_a_sessions_keys_are_in_secret_memory_only(
    tunnel: StartTunnel, tmp_path: Path, is_secret: bool
) -> None:
    if is_secret and not has_secret_memory():
        pytest.skip("this kernel has no memfd_secret")
    file = tmp_path / "memory.toml"
    file.write_text(f"[workers]\nsecret_memory = {str(is_secret).lower()}\n")
    pair = tunnel(transport="udp", server_arguments=("-c", str(file)))
    assert "secret memory" not in " ".join(status(pair.server).stdout.split())
    peer = add_known_peer(pair.server, "searched", "10.0.0.1", "udp")
    with RoamingClient(pair.client.host, peer, "10.0.0.1") as client:
        client.send(client.seal(udp_packet(client.inner, "10.99.0.1", 9, b"data")))
        wait_until(lambda: receives_from("searched", pair.server), "its packet is opened")
        keys = client._keys  # noqa: SLF001 (what else knows them)
        needles = [form for key in (keys.send, keys.receive) for form in forms_of(bytes_of(key))]
        found = {
            name: mappings_with(pid, needles) for name, pid in processes_of(pair.server).items()
        }
    if is_secret:
        assert not any(found.values()), found
        return
    # The search finds keys where they may be: in locked memory of those that use them.
    assert found["link-writer"] == found["tun-writer"] == set()
    assert "/memfd:fastun-keys (deleted)" in found["gateway"]
    assert "/memfd:fastun-keys (deleted)" in found["tun-reader"] & found["link-reader"]
    for mappings in found.values():
        assert mappings <= {"/memfd:fastun-keys (deleted)", "anonymous"}
