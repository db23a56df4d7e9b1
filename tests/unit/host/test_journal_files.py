"""Journal files that are not as they were written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.host.journal import journal_file, sysctls
from fastun.host.journal.changes import AnyChange, Dns, NftTable, RoutingRules, Sysctl
from fastun.host.journal.journal import Journal
from fastun.host.journal.sysctls import ForwardingSetting, Ipv6Forwarding
from fastun.host.routing import routing_rules
from tests.support.journals import NAME, edit, files, killed, start

pytestmark = pytest.mark.usefixtures("sysctl", "asked_by")


def test_a_line_that_was_cut_is_ignored(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"kind":"routing-rules","ma')
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert not files(tmp_path)
    assert "damaged" not in "".join(capsys.readouterr())


def test_a_damaged_line_keeps_nothing_from_being_undone(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    (path,) = files(tmp_path)
    header, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(header + b"\n\xff\x00nonsense\n" + rest)
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert "damaged journal" in "".join(capsys.readouterr())
    assert not files(tmp_path)


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_a_file_holds_up_no_start(
    tmp_path: Path, sysctl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lambda journal: journal.set_sysctl(NAME, "1"))
    os.mkfifo(files(tmp_path)[0].with_name("aaa.jsonl"), mode=0o600)
    Journal(tmp_path, "fastun1").wait_for_last(lambda: False)
    start(tmp_path)
    assert sysctl.read_text() == "0\n"
    assert "not a fastun journal; remove it" in "".join(capsys.readouterr())


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
    assert "".join(capsys.readouterr()).count("journal ignored") == 1


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
        '{"kind":"resolv-conf","interface":"a b"}',
        '{"kind":"resolv-conf","interface":"fastun0\\n"}',
        '{"kind":"resolv-conf","interface":"fastun0","path":"/etc/passwd"}',
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
def test_whatever_is_in_a_file_is_a_record_or_a_complaint(lines: list[bytes]) -> None:
    pending, complaint = journal_file.parse(lines)
    assert set(pending) <= set(range(1, len(lines) + 1))
    assert complaint or all(b"undone" in line for line in lines)


CHANGES = st.one_of(
    st.builds(RoutingRules, st.integers(1, 0xFFFFFFFF)),
    st.builds(Sysctl, st.just(NAME), st.sampled_from("012"), st.sampled_from("012")),
    st.builds(
        ForwardingSetting,
        st.sampled_from(["net/ipv4/conf/eth0.7/forwarding", "net/ipv6/conf/eth0/accept_ra"]),
        st.sampled_from("01"),
        st.sampled_from("12"),
        st.just("fastun0"),
        st.sampled_from(["", "net/ipv4/conf/all/forwarding"]),
    ),
    st.builds(
        Ipv6Forwarding, st.sampled_from("01"), st.just("fastun0"), st.just(("eth0", "default"))
    ),
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
    assert sysctls.SRC_VALID_MARK == NAME
    sysctl = Sysctl(NAME, "0", "1")
    assert journal_file.parse([journal_file.encode(sysctl)]) == ({1: sysctl}, "")


def test_a_setting_that_another_tunnel_s_rules_need_stays(
    journal: Journal, sysctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_rules, "leads_any", lambda _: True)
    journal.set_sysctl(NAME, "1")
    assert journal.undo_all() == []
    assert sysctl.read_text() == "1\n"
