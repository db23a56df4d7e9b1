"""Code of an attacker's in each worker, confined as that is: it reaches nothing outside.

One gateway is started by root, one by root of a user namespace; the code: tests/support/attempts.c.
"""

from __future__ import annotations

import platform
import subprocess
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import missing_capability
from fastun.lab.tunnel import FASTUN
from fastun.native import ROLES, probe_confinement
from tests.support.attempts import TRAPPED, Attempts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers of calls are those of x86-64"
)

WAYS = {
    "root": ("unshare", "--net"),
    "rootless": ("unshare", "--user", "--map-root-user", "--net", "--mount"),
}


@pytest.fixture(scope="module", params=WAYS)
def attempts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attempts]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    if not probe_confinement().has_filter:
        pytest.skip("this kernel has no seccomp filters")
    directory = tmp_path_factory.mktemp("attempts")
    made = Attempts(directory)
    # fmt: off
    command = [
        *WAYS[request.param], "env", *made.environment, *FASTUN, "serve",
        "--listen", "tcp://127.0.0.1:5555", "--listen", "udp://127.0.0.1:5555",
        "--address", "10.99.0.1/24", "--metrics", "off",
        "--state", str(directory / "state"), "--run-dir", str(directory / "run"),
    ]
    # fmt: on
    log_file = directory / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def are_done() -> bool:
        assert process.poll() is None, log_file.read_text(encoding="utf-8")
        return made.are_done()

    try:
        wait_until(are_done, "attempts in all workers", timeout_s=30)
        yield made
        assert process.poll() is None, "the gateway lives"
    finally:
        process.terminate()
        assert process.wait(15) == 0, log_file.read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_an_attackers_code_in_a_worker_reaches_nothing_outside(
    attempts: Attempts, role: str
) -> None:
    tried = attempts.of(role)
    assert len(tried) >= 45
    assert {what: result for what, result in tried.items() if result != TRAPPED} == {}


@pytest.mark.parametrize("role", ROLES)
def test_it_can_make_no_call_but_those_of_its_role(attempts: Attempts, role: str) -> None:
    assert attempts.not_listed(role) == set()
