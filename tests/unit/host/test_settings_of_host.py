"""Settings of the host that routes need, and those that are in their way."""

from __future__ import annotations

import errno
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from fastun.host import settings_of_host
from fastun.host.journal import sysctls
from fastun.host.journal.sysctls import SEND_REDIRECTS, SRC_VALID_MARK
from fastun.host.netlink.netlink import Fault
from fastun.host.routing.placing import Placed, Way, placed
from tests.support.pushed_device import settings

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.host.wanted import Refusal

NOTHING = placed((), (), (), Way("auto", 5))
EVERYTHING = placed((), [ip_network("0.0.0.0/0")], (), Way("auto", 5))
EVERYTHING_V6 = placed((), [ip_network("::/0")], (), Way("auto", 5))


class Recorder:
    """A journal that keeps what is set, or a host whose /proc/sys cannot be written."""

    def __init__(self, *, is_read_only: bool = False) -> None:
        self.set: list[tuple[str, str]] = []
        self._is_read_only = is_read_only

    def has_set(self, name: str) -> bool:
        return name in dict(self.set)

    def set_sysctl(self, name: str, value: str) -> None:
        if self._is_read_only:
            raise OSError(errno.EROFS, "Read-only file system")
        self.set.append((name, value))
        path = sysctls._PROC_SYS / name  # noqa: SLF001
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysctls, "_PROC_SYS", tmp_path)
    monkeypatch.setattr(settings_of_host, "_CONF", tmp_path / "net/ipv4/conf")
    return tmp_path


def rp_filter(proc: Path, **modes: int) -> None:
    for interface, mode in modes.items():
        path = proc / "net/ipv4/conf" / interface / "rp_filter"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{mode}\n")


def apply(found: Placed, journal: Recorder, **fields: Any) -> list[Refusal]:
    refused: list[Refusal] = []
    settings_of_host.apply(journal, settings(**fields), "ft0", found, refused)  # type: ignore[arg-type]
    return refused


@pytest.mark.parametrize(
    ("modes", "strict"),
    [
        ({"all": 0, "default": 1, "lo": 1, "eth0": 0, "ft0": 1}, ""),
        ({"all": 0, "eth0": 1, "eth1": 2}, "eth0"),
        ({"all": 1, "eth0": 0, "eth1": 2}, "eth0"),  # the larger of the two holds
        ({"all": 2, "eth0": 1}, ""),
    ],
)
def test_strict_validation_is_warned_of_where_it_is_in_force(
    proc: Path, modes: dict[str, int], strict: str
) -> None:
    rp_filter(proc, **modes)
    refused = apply(EVERYTHING, Recorder())
    assert [refusal.item for refusal in refused] == (["rp_filter"] if strict else [])
    if strict:
        assert f"strict on {strict}," in refused[0].reason
        assert refused[0].advice == "set rp_filter to 2 there"
    assert apply(EVERYTHING_V6, Recorder()) == apply(NOTHING, Recorder()) == []


def test_where_proc_sys_is_read_only_the_real_obstacle_is_warned_of(proc: Path) -> None:
    rp_filter(proc, all=0, eth0=2)
    assert apply(EVERYTHING, Recorder(is_read_only=True)) == []
    rp_filter(proc, eth0=1)
    (refusal,) = apply(EVERYTHING, Recorder(is_read_only=True))
    assert refusal.item == "rp_filter"


def test_a_setting_is_made_once_and_again_when_others_have_changed_it(proc: Path) -> None:
    rp_filter(proc, all=0)
    journal = Recorder()
    apply(EVERYTHING, journal)
    apply(EVERYTHING, journal)
    assert journal.set == [(SRC_VALID_MARK, "1")]
    (proc / SRC_VALID_MARK).write_text("0\n")
    apply(EVERYTHING, journal)
    assert journal.set == [(SRC_VALID_MARK, "1")] * 2


@pytest.mark.parametrize(
    ("n_peers", "mode", "is_off"), [(2, "tun", True), (1, "tun", False), (2, "tap", False)]
)
def test_redirects_are_off_where_peers_talk_to_each_other(
    proc: Path, n_peers: int, mode: str, *, is_off: bool
) -> None:
    assert proc.exists()
    journal = Recorder()
    (peer,) = settings().peers
    apply(NOTHING, journal, peers=(peer,) * n_peers, mode=mode)
    expected = [(SEND_REDIRECTS.format(where), "0") for where in ("ft0", "all")]
    assert journal.set == (expected if is_off else [])


def test_redirects_that_cannot_be_turned_off_are_a_warning_unless_they_are_off(
    proc: Path,
) -> None:
    path = proc / SEND_REDIRECTS.format("ft0")
    path.parent.mkdir(parents=True)
    (peer,) = settings().peers
    for value, n_refused in (("1\n", 1), ("0\n", 0)):
        path.write_text(value)
        refused = apply(NOTHING, Recorder(is_read_only=True), peers=(peer, peer), mode="tun")
        assert len(refused) == n_refused
        for refusal in refused:
            assert refusal.item == "net.ipv4.conf.ft0.send_redirects"
            assert "Read-only" in refusal.reason
            assert "start the container with --sysctl net.ipv4.conf.all" in refusal.advice


def test_why_there_is_no_ipv6(proc: Path) -> None:
    assert settings_of_host.why_no_ipv6(Fault(errno.EACCES, ""), "ft0")[1] == ""
    path = proc / "net/ipv6/conf/ft0/disable_ipv6"
    path.parent.mkdir(parents=True)
    path.write_text("1\n")
    reason, advice = settings_of_host.why_no_ipv6(Fault(errno.EACCES, ""), "ft0")
    assert reason == "IPv6 is turned off (sysctl net.ipv6.conf.ft0.disable_ipv6 is 1)"
    assert "net.ipv6.conf.default.disable_ipv6" in advice
    reason, _ = settings_of_host.why_no_ipv6(Fault(errno.EAFNOSUPPORT, ""), "ft0")
    assert reason == "this kernel has no IPv6"
