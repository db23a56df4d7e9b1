"""A host with a way out, and `fastun connect` on it (tests/support/unanswered.py)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.support.unanswered import Connect


@pytest.fixture
def client(lab: Lab) -> Host:
    client, internet = lab.host("client"), lab.host("internet")
    lab.wire(client, internet, ["192.0.2.2/24", "fd01::2/64"], ["192.0.2.1/24", "fd01::1/64"])
    client.ip("route", "add", "default", "via", "192.0.2.1")
    client.ip("-6", "route", "add", "default", "via", "fd01::1")
    return client


@pytest.fixture
def connect(client: Host, tmp_path: Path) -> Connect:
    """A function that starts `fastun connect` with a file and returns when it is up."""

    def start(
        text: str, name: str = "wg0.conf", path: Sequence[Path] = (), state: str = "."
    ) -> subprocess.Popen[bytes]:
        file = tmp_path / name
        file.touch(0o600)
        file.write_text(text)
        arguments = (
            "--state",
            str(tmp_path / state),
            "--run-dir",
            str(tmp_path),
            "--metrics",
            "off",
        )
        log = tmp_path / f"{file.stem}.log"
        with log.open("wb") as stderr:
            process = client.spawn(
                *(*FASTUN, "connect", str(file), *arguments),
                stderr=stderr,
                env=os.environ | {"PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]])},
            )
        wait_until(
            lambda: process.poll() is not None or "up  " in log.read_text(), "up", timeout_s=15
        )
        return process

    return start
