"""A host, and a /proc, that doctor finds nothing wrong with."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastun.doctor import finding as doctor_finding
from fastun.doctor import kernel as doctor_kernel
from fastun.doctor import network as doctor_network
from fastun.doctor.finding import Subject
from fastun.peers.store import PeerStore
from fastun.session import keys
from tests.support.doctored_host import Sound


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A host on which fastun has run before."""
    state, run_dir = tmp_path / "state", tmp_path / "run"
    state.mkdir(mode=0o700)
    run_dir.mkdir(mode=0o700)
    keys.store_private(state / "private.key", keys.generate_private())
    with PeerStore(state):
        pass
    return Sound(state, run_dir)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc to write into."""
    made = tmp_path / "proc"
    for name, value in {
        "self/status": "Name:\tx\nCapEff:\t0000000000001000\n",
        "swaps": "Filename\n/dev/sda2\n",
        "sys/net/ipv4/ip_forward": "1",
        "sys/net/ipv6/conf/all/forwarding": "1",
        "sys/net/ipv4/conf/all/rp_filter": "0",
        "sys/net/ipv4/conf/eth0/rp_filter": "0",
        "sys/net/ipv4/conf/lo/rp_filter": "1",
        "sys/net/ipv4/tcp_congestion_control": "cubic",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    for module in (doctor_finding, doctor_kernel, doctor_network):
        monkeypatch.setattr(module, "PROC", made)
    return made
