"""Commands of a wg-quick file, and the endpoints that `SaveConfig` puts into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.config.settings import Options, load
from fastun.config.wg_quick_saved import with_endpoints
from fastun.errors import ConfigError
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.config.hooks import Hooks

KEY = keys.format_key(keys.generate_private())
COMMANDS = """
PostUp = echo %i-1; echo "a b" %i # a comment
PreUp=iptables -A x
postup = echo two=2
PreDown = a
PostDown = b
PreUp =
"""


def loaded(directory: Path, more: str, **options: object) -> Hooks:
    file = directory / "wg0.conf"
    file.touch(0o600)
    file.write_text(f"[Interface]\nPrivateKey = {KEY}\nAddress = 10.9.0.1/24\n{more}")
    given = Options(config=file, state=directory, **options)  # type: ignore[arg-type]
    return load("serve", None, given).hooks


def test_commands_are_kept_in_order_for_a_shell_with_the_name_of_the_interface(
    tmp_path: Path,
) -> None:
    hooks = loaded(tmp_path, COMMANDS, hooks=True)
    assert [each[2] for each in hooks.up] == ['echo wg0-1; echo "a b" wg0', "echo two=2"]
    assert [each[2] for each in hooks.pre_up] == ["iptables -A x"]
    assert [hooks.down[0][2], hooks.post_down[0][2]] == ["a", "b"]
    assert {each[1] for each in (*hooks.up, *hooks.pre_up)} == {"-c"}
    assert all(each[0].startswith("/") for each in hooks.up)
    assert hooks.file == tmp_path / "wg0.conf"
    assert hooks.save_to is None


def test_they_do_not_run_unless_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, COMMANDS)
    assert str(caught.value) == (
        f"{tmp_path / 'wg0.conf'}: line 5: Interface.PostUp: a shell command;"
        " allow it with --hooks, or remove it"
    )
    assert loaded(tmp_path, "PreUp =\nPostDown =  # none\n").file is None


def test_a_name_that_a_shell_would_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 4: Interface.PostUp: the interface name 'a;b'"):
        loaded(tmp_path, "PostUp = echo %i", hooks=True, interface="a;b")


@pytest.mark.parametrize(("value", "is_on"), [("true", True), ("TRUE", True), ("false", False)])
def test_save_config_names_the_file(tmp_path: Path, value: str, is_on: bool) -> None:
    saved = loaded(tmp_path, f"SaveConfig = {value}").save_to
    assert saved == (tmp_path / "wg0.conf" if is_on else None)


FILE = """\ufeff[Interface]
PrivateKey = x # PublicKey = A=
[Peer] # one
PublicKey = A= # its key
AllowedIPs = 10.0.0.2/32

[peer]
endpoint=192.0.2.7:1 # moved
publickey=B=
[Peer]
PublicKey = C=
Endpoint = vpn.example.net:51820
[Peer]
AllowedIPs = ::/0
[Peer]
PublicKey = D="""
SAVED = """\ufeff[Interface]
PrivateKey = x # PublicKey = A=
[Peer] # one
PublicKey = A= # its key
Endpoint = 192.0.2.1:1000
AllowedIPs = 10.0.0.2/32

[peer]
endpoint=[2001:db8::1]:7 # moved
publickey=B=
[Peer]
PublicKey = C=
Endpoint = vpn.example.net:51820
[Peer]
AllowedIPs = ::/0
[Peer]
PublicKey = D=
Endpoint = 192.0.2.9:9
"""
ENDPOINTS = {
    "A=": "192.0.2.1:1000",
    "B=": "[2001:db8::1]:7",
    "C=": "192.0.2.3:3",
    "D=": "192.0.2.9:9",
    "E=": "192.0.2.5:5",
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_endpoints_are_put_into_the_file_and_the_rest_is_left_as_it_is(line_end: str) -> None:
    before, saved = FILE.replace("\n", line_end), SAVED[:-1].replace("\n", line_end)
    assert with_endpoints(before, ENDPOINTS) == saved
    assert with_endpoints(saved, ENDPOINTS) == saved
    assert with_endpoints(before, {}) == before
