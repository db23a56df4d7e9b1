"""The journal: whatever ends a gateway, what it has changed of its host is undone, and no more."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fastun import ending
from fastun.errors import RuntimeFailure
from fastun.host.dns import resolv_conf
from fastun.host.journal import sysctls
from fastun.host.journal.changes import AnyChange, Dns, NftTable, ResolvConf, RoutingRules, Sysctl
from fastun.host.journal.journal import Journal
from tests.support.journals import DNS, NAME, RULES, TABLE, edit, files, killed, make, start

pytestmark = pytest.mark.usefixtures("sysctl", "asked_by")


# -- the end ----------------------------------------------------------------------------------


def test_rules_go_before_what_can_hang(
    journal: Journal, undone: list[tuple[AnyChange, bool]]
) -> None:
    second = RoutingRules(51821)
    make(journal, DNS, RULES, TABLE, second)
    assert journal.undo_all() == []
    assert undone == [(second, False), (RULES, False), (TABLE, False), (DNS, False)]


def test_a_setting_is_as_it_was(journal: Journal, sysctl: Path, tmp_path: Path) -> None:
    for _ in range(2):
        journal.set_sysctl(NAME, "1")
    assert sysctl.read_text() == "1\n"
    (path,) = files(tmp_path / "state")
    assert len(path.read_text().splitlines()) == 2, "the header, and one change"
    assert journal.undo_all() == []
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path / "state")


def test_a_setting_that_was_right_is_left_alone(journal: Journal, sysctl: Path) -> None:
    sysctl.write_text("1\n")
    journal.set_sysctl(NAME, "1")
    journal.undo_all()
    assert sysctl.read_text() == "1\n"


def test_a_setting_that_was_right_and_cannot_be_written_does_not_fail_the_end(
    journal: Journal, sysctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")  # as in a container

    sysctl.write_text("1\n")
    monkeypatch.setattr(sysctls, "write", refuse)
    with pytest.raises(OSError, match="Read-only"):
        journal.set_sysctl(NAME, "1")
    assert journal.undo_all() == []


def test_a_setting_that_others_have_changed_since_is_left_to_them(
    journal: Journal, sysctl: Path
) -> None:
    journal.set_sysctl(NAME, "1")
    sysctl.write_text("2\n")
    assert journal.undo_all() == []
    assert sysctl.read_text() == "2\n"


def test_a_setting_that_is_gone_is_not_a_failure(journal: Journal, sysctl: Path) -> None:
    journal.set_sysctl(NAME, "1")
    sysctl.unlink()
    assert journal.undo_all() == []


def test_one_that_fails_keeps_nothing_from_being_undone(
    journal: Journal, undone: list[tuple[AnyChange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeFailure("nft: no")

    monkeypatch.setattr(NftTable, "undo", refuse)
    make(journal, RULES, TABLE, DNS)
    assert journal.undo_all() == [
        "could not restore nft table inet fastun0: nft: no; run 'nft delete table inet fastun0'"
    ]
    assert [change for change, _ in undone] == [RULES, DNS]


def test_one_that_hangs_keeps_nothing_from_being_undone(
    journal: Journal, undone: list[tuple[AnyChange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NftTable, "undo", lambda *_, **__: time.sleep(60))
    monkeypatch.setattr(NftTable, "limit_s", 0.2)
    make(journal, RULES, TABLE, DNS)
    begun = time.monotonic()
    (failure,) = journal.undo_all()
    assert "nft table inet fastun0: not finished within 1 s" in failure
    assert time.monotonic() - begun < 5
    assert [change for change, _ in undone] == [RULES, DNS]


def test_what_could_not_be_undone_is_tried_by_the_next_start(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeFailure("resolvconf: no")

    with monkeypatch.context() as patch:
        patch.setattr(Dns, "undo", refuse)

        def fail(journal: Journal) -> None:
            make(journal, DNS, RULES)
            journal.undo_all()

        killed(tmp_path, fail)
    start(tmp_path)
    assert undone == [(DNS, True)]  # the rules were undone by the first
    assert not files(tmp_path)


def test_a_failure_to_undo_is_the_end_s_error(tmp_path: Path, sysctl: Path) -> None:
    with pytest.raises(RuntimeFailure, match="could not restore net"):
        end_with_a_setting_that_cannot_be_restored(tmp_path, sysctl)


def test_a_failure_to_undo_does_not_hide_another_error(tmp_path: Path, sysctl: Path) -> None:
    with pytest.raises(KeyError):
        end_with_a_setting_that_cannot_be_restored(tmp_path, sysctl, KeyError())


def end_with_a_setting_that_cannot_be_restored(
    state: Path, sysctl: Path, error: Exception | None = None
) -> None:
    with Journal(state, "fastun0") as journal:
        journal.set_sysctl(NAME, "1")
        sysctl.unlink()
        sysctl.mkdir()
        if error is not None:
            raise error


def test_nothing_is_changed_once_the_end_has_begun(
    journal: Journal, sysctl: Path, asked_by: list[str]
) -> None:
    ending.ask("SIGTERM")
    with pytest.raises(ending.AskedToStop):
        journal.set_sysctl(NAME, "1")
    asked_by.clear()
    journal.undo_all()
    with pytest.raises(ending.AskedToStop):
        journal.set_sysctl(NAME, "1")
    assert sysctl.read_text() == "0\n"


def test_a_change_that_is_being_made_is_undone_after_it(journal: Journal, sysctl: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def change() -> None:
        with journal.changing(Sysctl(NAME, "0", "1")):
            begun.set()
            go_on.wait(5)
            sysctl.write_text("1\n")

    thread = threading.Thread(target=change)
    thread.start()
    begun.wait(5)
    threading.Timer(0.3, go_on.set).start()
    assert journal.undo_all() == []
    thread.join()
    assert sysctl.read_text() == "0\n"


def test_a_state_directory_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").touch()
    with Journal(tmp_path / "state", "fastun0") as journal:
        journal.set_sysctl(NAME, "1")
        make(journal, Sysctl("net/x", "0", "1"))
        assert sysctl.read_text() == "1\n"
    assert sysctl.read_text() == "0\n"
    assert "".join(capsys.readouterr()).count("cannot write the journal") == 1


# -- a SIGKILL --------------------------------------------------------------------------------


def test_the_next_start_undoes_what_a_killed_one_left(
    tmp_path: Path, sysctl: Path, undone: list[tuple[AnyChange, bool]]
) -> None:
    def work(journal: Journal) -> None:
        journal.set_sysctl(NAME, "1")
        make(journal, DNS, RULES)

    killed(tmp_path, work)
    assert sysctl.read_text() == "1\n"
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert undone == [(RULES, True), (DNS, True)]
    assert not files(tmp_path)


def test_a_change_is_recorded_before_it_is_made(tmp_path: Path, sysctl: Path) -> None:
    def work(journal: Journal) -> None:
        with journal.changing(Sysctl(NAME, "0", "1")):
            sysctl.write_text("1\n")
            os.kill(os.getpid(), signal.SIGKILL)

    killed(tmp_path, work)
    start(tmp_path)
    assert sysctl.read_text() == "0\n"


def test_what_was_recorded_and_not_made_is_undone_without_harm(
    tmp_path: Path, sysctl: Path
) -> None:
    def work(journal: Journal) -> None:
        with journal.changing(Sysctl(NAME, "5", "1")):
            os.kill(os.getpid(), signal.SIGKILL)

    killed(tmp_path, work)
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path)


def test_what_a_start_could_not_undo_is_tried_by_the_next(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeFailure("nft: no")

    killed(tmp_path, lambda journal: make(journal, TABLE, DNS))
    with monkeypatch.context() as patch:
        patch.setattr(NftTable, "undo", refuse)
        start(tmp_path)
    assert undone == [(DNS, True)]
    start(tmp_path)
    assert undone == [(DNS, True), (TABLE, True)]
    assert not files(tmp_path)


def test_what_was_taken_back_is_not_undone_and_what_came_after_it_is(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]]
) -> None:
    def work(journal: Journal) -> None:
        make(journal, DNS)
        journal.strike(DNS)
        make(journal, RULES, TABLE)
        journal.strike(RULES)
        make(journal, DNS)

    killed(tmp_path, work)
    start(tmp_path)
    assert undone == [(TABLE, True), (DNS, True)]
    assert not files(tmp_path)


def test_a_living_gateway_s_changes_are_left_alone(tmp_path: Path, sysctl: Path) -> None:
    with Journal(tmp_path, "fastun0") as living:
        living.set_sysctl(NAME, "1")
        start(tmp_path)
        assert sysctl.read_text() == "1\n"
        assert len(files(tmp_path)) == 1


def test_after_a_reboot_only_what_outlives_it_is_undone(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.168.1.1\n")
    monkeypatch.setattr(resolv_conf, "PATH", file)
    resolv_conf.add("fastun0", ("10.9.0.1",))
    killed(tmp_path, lambda journal: make(journal, RULES, DNS, ResolvConf("fastun0")))
    edit(files(tmp_path)[0], boot="another", netns=1)
    start(tmp_path)
    assert undone == []
    assert file.read_text() == "nameserver 192.168.1.1\n"
    assert not files(tmp_path)


def test_another_namespace_s_changes_are_left_alone(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]]
) -> None:
    killed(tmp_path, lambda journal: make(journal, RULES))
    edit(files(tmp_path)[0], netns=1)
    start(tmp_path)
    assert undone == []
    assert len(files(tmp_path)) == 1


# -- several gateways -------------------------------------------------------------------------


@pytest.mark.parametrize("is_repaired", [True, False])
@pytest.mark.parametrize("first_goes_first", [True, False])
def test_gateways_that_know_nothing_of_each_other_leave_a_setting_as_it_was(
    tmp_path: Path, sysctl: Path, *, first_goes_first: bool, is_repaired: bool
) -> None:
    gateways = [start(tmp_path / name, "fastun0") for name in ("one", "two")]
    for journal in gateways:
        journal.set_sysctl(NAME, "1")
    first, last = gateways if first_goes_first else reversed(gateways)
    assert first.undo_all() == []
    if is_repaired:
        last.set_sysctl(NAME, "1")
        last.set_sysctl(NAME, "1")
        assert sysctl.read_text() == "1\n"
    assert last.undo_all() == []
    assert sysctl.read_text() == "0\n"


@pytest.mark.parametrize("first_goes_first", [True, False])
def test_a_shared_setting_is_restored_by_the_last(
    tmp_path: Path, sysctl: Path, *, first_goes_first: bool
) -> None:
    gateways = [start(tmp_path, "fastun0"), start(tmp_path, "fastun1")]
    for journal in gateways:
        journal.set_sysctl(NAME, "1")
    first, last = gateways if first_goes_first else reversed(gateways)
    assert first.undo_all() == []
    assert sysctl.read_text() == "1\n"
    assert last.undo_all() == []
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path)


def test_a_killed_one_s_share_is_the_last_one_s(tmp_path: Path, sysctl: Path) -> None:
    survivor = Journal(tmp_path, "fastun1")
    killed(
        tmp_path,
        lambda journal: journal.set_sysctl(NAME, "1"),
        lambda: survivor.set_sysctl(NAME, "1"),
    )
    start(tmp_path, "fastun2")
    assert sysctl.read_text() == "1\n"
    survivor.undo_all()
    assert sysctl.read_text() == "0\n"


def test_a_killed_one_keeps_nothing_from_being_restored(tmp_path: Path, sysctl: Path) -> None:
    survivor = Journal(tmp_path, "fastun1")
    survivor.set_sysctl(NAME, "1")
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    survivor.undo_all()
    assert sysctl.read_text() == "0\n"


def test_two_killed_ones_are_undone_together(tmp_path: Path, sysctl: Path) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (left,) = files(tmp_path)
    (left.parent / "second.jsonl").write_bytes(left.read_bytes())
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path)
