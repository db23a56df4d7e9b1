"""What is to be forwarded, and what of `[forward]` is refused before anything is touched."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.config.forward import Forward
from fastun.config.settings import Options, ServeSettings, load
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.config.settings import Settings

OFFICE = ip_network("172.16.9.0/24")


def loaded(tmp_path: Path, text: str = "", role: str = "serve", **options: bool) -> Settings:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    target = "udp://192.0.2.1" if role == "connect" else None
    return load(role, target, Options(config=file, state=tmp_path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("", {}, None),
        ("", {"forward": True}, Forward()),
        ("", {"forward": True, "masquerade": True}, Forward(masquerade=True)),
        ("[forward]", {}, Forward()),
        ("[forward]\nenabled = false", {}, None),
        ("[forward]\nenabled = false", {"forward": True}, Forward()),
        ("[forward]\nmasquerade = true", {}, Forward(masquerade=True)),
        (
            "[forward]\nmasquerade = ['eth0', 'eth1', 'eth0']",
            {},
            Forward(masquerade=("eth0", "eth1")),
        ),
        ("[forward]\nmasquerade = ['eth0']", {"masquerade": True}, Forward(masquerade=True)),
        ("[forward]\npeers = false", {}, Forward(peers=False)),
        ("[forward]\nto = ['172.16.9.0/24']", {}, Forward(to=(OFFICE,))),
    ],
)
def test_a_section_or_an_option_turns_it_on(
    tmp_path: Path, text: str, options: dict[str, bool], expected: Forward | None
) -> None:
    assert loaded(tmp_path, text, **options).forward == expected


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("", {"masquerade": True}, "--masquerade: nothing is forwarded; add --forward"),
        (
            "[forward]\nmasquerade = ['eth0/1']",
            {},
            "forward.masquerade: 'eth0/1' is not a valid interface name",
        ),
        ("[forward]\nmasquerade = []", {}, "forward.masquerade: 0 interfaces; name 1 to 32"),
        ("[forward]\nmasquerade = 'eth0'", {}, "forward.masquerade: must be true"),
        ("[forward]\nto = []", {}, "forward.to: 0 networks; list 1 to 256, or remove it"),
        ("[forward]\nto = ['172.16.9.1/24']", {}, "forward.to: 172.16.9.1/24 has bits set"),
        ("[forward]\nto = ['office']", {}, "forward.to: 'office' is not a prefix"),
        ("[forward]\nnat = true", {}, "'forward.nat': unknown field"),
        ("[interface]\nmode = 'tap'\n[forward]\npeers = false", {}, "forward.peers: on a TAP"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(
    tmp_path: Path, text: str, options: dict[str, bool], complaint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text, **options)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_clients_get_routes_to_what_is_forwarded_but_no_default_route(tmp_path: Path) -> None:
    text = "[push]\nroutes = ['10.1.0.0/16']\n[forward]\nto = ['172.16.9.0/24', '::/0']"
    settings = loaded(tmp_path, text)
    assert isinstance(settings, ServeSettings)
    assert settings.push.routes == (ip_network("10.1.0.0/16"), OFFICE)


def test_networks_that_do_not_fit_a_hello_are_refused_by_their_field(tmp_path: Path) -> None:
    networks = [f"fd00:{number:x}:1234:5678::/64" for number in range(200)]
    with pytest.raises(ConfigError, match=r"forward\.to: 200 routes do not fit"):
        loaded(tmp_path, f"[forward]\nto = {networks}")


def test_a_client_may_forward_too(tmp_path: Path) -> None:
    (tmp_path / "key").touch(0o600)
    text = "[interface]\nwire = 'plain'\n[forward]\nmasquerade = ['fastun0']"
    file = tmp_path / "client.toml"
    file.write_text(text)
    settings = load("connect", "tcp://192.0.2.1", Options(config=file, insecure=True))
    assert settings.forward == Forward(masquerade=("fastun0",))
