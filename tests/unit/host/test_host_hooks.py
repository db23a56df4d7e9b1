"""What a gateway in the wrong hands may have run, and write into a file of commands."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import pytest

from fastun import codec
from fastun.config.hooks import Hooks
from fastun.config.settings import Options, load
from fastun.errors import RuntimeFailure
from fastun.host.process import hooks, messages
from fastun.host.process.channel import MESSAGE_BYTES_MAX, Unasked
from fastun.host.process.hooks import HostHooks
from fastun.peers.peer import Peer
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.config.settings import Settings
    from fastun.host.process.messages import HookDone

PEER = Peer(name="p", public_key=bytes([7] * 32))
KEY = format_key(PEER.public_key)


def settings(**fields: object) -> Settings:
    its = Hooks(**fields)  # type: ignore[arg-type]
    return dataclasses.replace(load("serve", None, Options()), hooks=its, peers=(PEER,))


def test_one_that_is_not_in_the_settings_is_not_run() -> None:
    done: list[HookDone] = []
    of_host = HostHooks(done.append)
    with pytest.raises(RuntimeFailure, match="no such hook"):
        of_host.run(messages.RunHook(job=1, event="up", index=0), settings(), ())
    of_host.close()
    assert done == []


def test_what_is_not_of_a_peer_cannot_be_said_and_what_is_said_is_one_line(tmp_path: Path) -> None:
    done: list[HookDone] = []
    of_host = HostHooks(done.append)
    program = ("/bin/sh", "-c", f"env > {tmp_path}/said")
    asked = messages.RunHook(
        job=1, event="peer_up", index=0, facts={"FASTUN_PEER": "a\nPATH=/tmp"}, peer="a"
    )
    its = settings(peer_up=(program,))
    of_host.run(asked, its, its.addresses)
    while not done:
        pass
    of_host.close()
    said = (tmp_path / "said").read_text().splitlines()
    assert "FASTUN_PEER=a\\nPATH=/tmp" in said
    assert "FASTUN_ADDRESSES=10.55.0.1/24" in said
    for name in ("PATH", "LD_PRELOAD", "FASTUN_ADDRESSES"):
        fields = codec.pack(messages.RunHook(job=1, event="peer_up", index=0))
        other = {**msgspec.msgpack.decode(fields), "facts": {name: "/tmp"}}  # noqa: S108
        with pytest.raises(codec.CodecError):
            codec.unpack(codec.pack(other), messages.RunHook, MESSAGE_BYTES_MAX)


def test_no_more_run_at_once_than_a_gateway_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "AT_ONCE_MAX", 2)
    of_host = HostHooks(lambda _: None)
    its = settings(peer_up=(("/bin/sleep", "60"),))
    for job in (1, 2):
        of_host.run(messages.RunHook(job=job, event="peer_up", index=0), its, ())
    for job in (2, 3):
        with pytest.raises(Unasked, match="too many hooks at once"):
            of_host.run(messages.RunHook(job=job, event="peer_up", index=0), its, ())
    of_host.close()


@pytest.mark.parametrize(
    ("key", "endpoint", "is_taken"),
    [
        (KEY, "192.0.2.1:51820", True),
        (KEY, "[2001:db8::1]:1", True),
        (format_key(bytes([8] * 32)), "192.0.2.1:51820", False),
        (KEY, "192.0.2.1:51820\nPostUp = reboot", False),
        (KEY, "[fe80::1%eth0]:51820", True),
        (KEY, "[fe80::1%eth0\nPostUp = reboot]:51820", False),
        (KEY, "192.0.2.1", False),
        (KEY, "192.0.2.1:0", False),
        (KEY, "192.0.2.1:65536", False),
        (KEY, "2001:db8::1:1", False),
        (KEY, "vpn.example.net:1", False),
    ],
)
def test_an_endpoint_that_is_saved_is_an_address_and_a_port_of_a_known_peer(
    tmp_path: Path, key: str, endpoint: str, *, is_taken: bool
) -> None:
    file = tmp_path / "wg0.conf"
    before = f"[Peer]\nPublicKey = {KEY}\n"
    file.write_text(before)
    asked = messages.SaveEndpoints(endpoints={key: endpoint})
    if is_taken:
        HostHooks.save(asked, settings(save_to=file))
        assert f"\nEndpoint = {endpoint}\n" in file.read_text()
    else:
        with pytest.raises(Unasked):
            HostHooks.save(asked, settings(save_to=file))
        assert file.read_text() == before
