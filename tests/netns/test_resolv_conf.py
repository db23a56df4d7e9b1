"""DNS on a host where no program manages /etc/resolv.conf: the file itself, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from tests.support.kill_all import kill_all
from tests.support.name_server import resolv_conf
from tests.support.unanswered import INTERFACE, PEER, SOME, stop, warned

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.unanswered import Connect

LAN, OURS = "192.0.2.53", "10.9.0.1"
DNS = f"DNS = {OURS}, corp.example\n"


def servers(file: Path) -> list[str]:
    lines = map(str.split, file.read_text().splitlines())
    return [line[1] for line in lines if line[:1] == ["nameserver"]]


def test_the_file_is_edited_kept_and_restored(
    client: Host, connect: Connect, tmp_path: Path
) -> None:
    with resolv_conf(client, LAN) as file:
        before = file.read_text()
        process = connect(INTERFACE + DNS + PEER + SOME)
        assert servers(file) == [OURS]
        kill_all(client)
        process.wait(10)
        assert servers(file) == [OURS], "nothing has undone it yet"
        process = connect(INTERFACE + DNS + PEER + SOME)
        assert warned(tmp_path) == []
        file.write_text("nameserver 192.0.2.54\n")  # as a DHCP client does
        wait_until(lambda: servers(file) == [OURS], "set again", timeout_s=15)
        stop(process)
        assert file.read_text() == "nameserver 192.0.2.54\n"
        file.write_text(before)
        stop(connect(INTERFACE + DNS + PEER + SOME))
        assert file.read_text() == before
