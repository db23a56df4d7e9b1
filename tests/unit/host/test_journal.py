"""The journal: whatever ends a gateway, what it has changed of its host is undone, and no more."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun import ending
from fastun.errors import RuntimeFailure
from fastun.host import changes, journal_file, routing_rules
from fastun.host.changes import AnyChange, Dns, NftTable, RoutingRules, Sysctl
from fastun.host.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "net/ipv4/conf/all/src_valid_mark"


@pytest.fixture(autouse=True)
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting that is 0, below a /proc/sys of this test's own."""
    monkeypatch.setattr(changes, "_PROC_SYS", tmp_path / "proc")
    path = tmp_path / "proc" / NAME
    path.parent.mkdir(parents=True)
    path.write_text("0\n")
    return path


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[tuple[AnyChange, bool]]:
    """What is undone of the kinds that need a kernel, and whether its owner had died."""
    record: list[tuple[AnyChange, bool]] = []

    def undo(change: AnyChange, limit_s: float, *, owner_died: bool) -> None:
        assert 0 < limit_s <= change.limit_s
        record.append((change, owner_died))

    for kind in (RoutingRules, NftTable, Dns):
        monkeypatch.setattr(kind, "undo", undo)
    return record


@pytest.fixture(autouse=True)
def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The signals that have asked fastun to stop."""
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    return asked


def make(journal: Journal, *made: AnyChange) -> None:
    for change in made:
        with journal.changing(change):
            pass


def killed(
    state: Path, work: Callable[[Journal], None], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Have a gateway do its work and be killed, after what is done ``meanwhile``."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(journal := Journal(state, "dead0"))
            os.write(done, b"\n")
            time.sleep(60)
            del journal
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    meanwhile()
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def files(state: Path) -> list[Path]:
    return journal_file.paths(state / "journal")


def start(state: Path, interface: str = "fastun1") -> Journal:
    return Journal(state, interface).__enter__()


RULES, TABLE, DNS = (
    RoutingRules(51820),
    NftTable("fastun0", "fastun0"),
    Dns("fastun0", "resolvconf"),
)


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


def test_a_setting_that_others_have_changed_since_is_left_to_them(
    journal: Journal, sysctl: Path
) -> None:
    journal.set_sysctl(NAME, "1")
    sysctl.write_text("2\n")
    assert journal.undo_all() == []
    assert sysctl.read_text() == "2\n"


def test_a_setting_that_is_gone_is_no_failure(journal: Journal, sysctl: Path) -> None:
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
    assert capsys.readouterr().out.count("cannot write the journal") == 1


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
    killed(tmp_path, lambda journal: make(journal, RULES, DNS))
    edit(files(tmp_path)[0], boot="another", netns=1)
    monkeypatch.setattr(Dns, "outlives_boot", True)
    start(tmp_path)
    assert undone == [(DNS, True)]
    assert not files(tmp_path)


def test_another_namespace_s_changes_are_left_alone(
    tmp_path: Path, undone: list[tuple[AnyChange, bool]]
) -> None:
    killed(tmp_path, lambda journal: make(journal, RULES))
    edit(files(tmp_path)[0], netns=1)
    start(tmp_path)
    assert undone == []
    assert len(files(tmp_path)) == 1


def edit(path: Path, **fields: object) -> None:
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | fields) + "\n", *rest]))


# -- several gateways -------------------------------------------------------------------------


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


# -- files that are not as they were written --------------------------------------------------


def test_a_line_that_was_cut_is_ignored(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"kind":"routing-rules","ma')
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path)
    assert "damaged" not in capsys.readouterr().out


def test_a_damaged_line_keeps_nothing_from_being_undone(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (path,) = files(tmp_path)
    header, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(header + b"\n\xff\x00nonsense\n" + rest)
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert "damaged journal" in capsys.readouterr().out
    assert not files(tmp_path)


@pytest.mark.parametrize("damage", ["version", "header", "mode", "size", "link"])
def test_a_file_that_is_not_to_be_believed_is_left_alone(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (path,) = files(tmp_path)
    match damage:
        case "version":
            edit(path, version=2)
        case "header":
            path.write_bytes(b"{" + path.read_bytes())
        case "mode":
            path.chmod(0o620)
        case "size":
            with path.open("ab") as file:
                file.write(b"\n" * 256 * 1024)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
    start(tmp_path)
    assert sysctl.read_text() == "1\n"
    assert files(tmp_path) == [path]
    assert capsys.readouterr().out.count("journal ignored") == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"kind":"sysctl","name":"kernel/core_pattern","before":"x","ours":"1"}',
        '{"kind":"sysctl","name":"net/../kernel/core_pattern","before":"x","ours":"1"}',
        '{"kind":"sysctl","name":"net/ipv4/../../x","before":"x","ours":"1"}',
        '{"kind":"sysctl","name":"/etc/passwd","before":"x","ours":"1"}',
        '{"kind":"sysctl","name":"net/x\\n","before":"x","ours":"1"}',
        '{"kind":"sysctl","name":"net/x","before":"|/bin/sh","ours":"1"}',
        '{"kind":"nft-table","name":"x; flush ruleset","interface":"fastun0"}',
        '{"kind":"nft-table","name":"x\\n","interface":"fastun0"}',
        '{"kind":"dns","interface":"-x","program":"resolvconf"}',
        '{"kind":"dns","interface":"$(id)","program":"resolvconf"}',
        '{"kind":"dns","interface":"fastun0","program":"sh"}',
        '{"kind":"routing-rules","mark":0}',
        '{"kind":"routing-rules","mark":51820,"table":254}',
        '{"kind":"unheard-of"}',
    ],
)
def test_no_file_makes_us_touch_more_than_is_ours(line: str) -> None:
    pending, complaint = journal_file.parse([line.encode()])
    assert pending == {}
    assert complaint.startswith("line 2: ")


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b'{"kind":"undone","line":1}', b"[]"])))
def test_whatever_stands_in_a_file_is_a_record_or_a_complaint(lines: list[bytes]) -> None:
    pending, complaint = journal_file.parse(lines)
    assert set(pending) <= set(range(1, len(lines) + 1))
    assert complaint or all(b"undone" in line for line in lines)


CHANGES = st.one_of(
    st.builds(RoutingRules, st.integers(1, 0xFFFFFFFF)),
    st.builds(Sysctl, st.just(NAME), st.sampled_from("012"), st.sampled_from("012")),
    st.builds(NftTable, st.from_regex("[a-z_]{1,20}", fullmatch=True), st.just("fastun0")),
    st.builds(Dns, st.just("fastun0"), st.sampled_from(["resolvconf", "resolvectl"])),
)


@given(st.lists(CHANGES, max_size=8), st.sets(st.integers(1, 8)), st.integers(0, 1000))
def test_a_file_cut_anywhere_says_what_stood_before_the_cut(
    made: list[AnyChange], undone: set[int], cut: int
) -> None:
    records = [*made, *(journal_file.Undone(line) for line in sorted(undone))]
    encoded = [journal_file.encode(record) for record in records]
    text = b"".join(encoded)[:cut]
    n_whole = text.count(b"\n")
    expected = dict(enumerate(made[:n_whole], 1))
    for record in records[len(made) : n_whole]:
        assert isinstance(record, journal_file.Undone)
        expected.pop(record.line, None)
    assert journal_file.parse(text.split(b"\n")[:-1]) == (expected, "")


def test_the_setting_that_routes_need_is_within_what_a_record_may_name() -> None:
    assert changes.SRC_VALID_MARK == NAME
    sysctl = Sysctl(NAME, "0", "1")
    assert journal_file.parse([journal_file.encode(sysctl)]) == ({1: sysctl}, "")


def test_a_setting_that_another_tunnel_s_rules_need_stays(
    journal: Journal, sysctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_rules, "leads_any", lambda _: True)
    journal.set_sysctl(NAME, "1")
    assert journal.undo_all() == []
    assert sysctl.read_text() == "1\n"
