"""Tables of our own, in the real nftables: made whole or not at all, compared, and removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fastun.host import programs
from fastun.host.firewall import nft
from fastun.host.firewall.nft import Chain, NftRefused, Table, table_name
from fastun.host.firewall.own_tables import Tables

if TYPE_CHECKING:
    from fastun.host.journal.journal import Journal
    from fastun.lab.host import Host
    from fastun.lab.network import Lab

NAME = "fastun_ft0"


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("host")


@pytest.fixture
def tables(journal: Journal) -> Tables:
    return Tables(journal)


def table(*ports: int, stays: bool = False, name: str = NAME) -> Table:
    """Return one that drops what comes to these ports."""
    rules = tuple(
        (nft.match(nft.header("udp", "dport"), port), nft.COUNTER, nft.DROP) for port in ports
    )
    chain = Chain(name="input", hook="input", rules=rules)
    return Table(name=name, interface="ft0", chains=(chain,), stays=stays)


def listed(host: Host) -> str:
    return host.run("nft", "list", "ruleset").stdout


def test_a_table_is_made_once_and_replaced_as_a_whole(host: Host, tables: Tables) -> None:
    assert host.inside(lambda: tables.have(table(53, 54)))
    assert not host.inside(lambda: tables.have(table(53, 54)))
    assert host.inside(lambda: tables.have(table(55)))
    assert "dport 55 counter" in listed(host)
    assert "dport 53" not in listed(host)
    assert host.inside(tables.changed) == ()


@pytest.mark.parametrize(
    "command",
    [
        f"delete table inet {NAME}",
        f"flush table inet {NAME}",
        f"insert rule inet {NAME} input accept",
        f"add chain inet {NAME} more",
        f"chain inet {NAME} input {{ policy drop; }}",
    ],
)
def test_what_others_do_to_it_is_seen_and_undone(host: Host, tables: Tables, command: str) -> None:
    host.inside(lambda: tables.have(table(53)))
    before = listed(host)
    host.run("nft", "add table inet others")
    assert host.inside(tables.changed) == ()
    host.run("nft", command)
    assert host.inside(tables.changed) == (NAME,)
    tables.forget([NAME])
    assert host.inside(lambda: tables.have(table(53)))
    host.run("nft", "delete table inet others")
    assert listed(host) == before


def test_what_it_has_counted_is_not_a_change(host: Host, tables: Tables) -> None:
    host.inside(lambda: tables.have(table(53)))
    host.run("bash", "-c", "echo > /dev/udp/127.0.0.1/53")
    assert "packets 1 " in listed(host)
    assert host.inside(tables.changed) == ()


def test_what_the_kernel_refuses_changes_nothing_and_is_one_line(
    host: Host, tables: Tables
) -> None:
    host.inside(lambda: tables.have(table(53)))
    before = listed(host)
    bad = Chain(name="nat", hook="forward", kind="nat")
    worse = Table(name=NAME, interface="ft0", chains=(*table(54).chains, bad))
    with pytest.raises(NftRefused, match=r"^nft: Could not process rule: Operation not supported$"):
        host.inside(lambda: tables.have(worse))
    assert listed(host) == before


def test_a_missing_nft_is_one_line_with_what_to_do(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "find", lambda _: None)
    with pytest.raises(NftRefused, match="install the package nftables"):
        tables.have(table(53))


def test_the_journal_removes_it_but_one_that_stays(
    host: Host, tables: Tables, journal: Journal
) -> None:
    kept = table_name("ft0", "kill")
    host.inside(lambda: tables.have(table(53)))
    host.inside(lambda: tables.have(table(54, stays=True, name=kept)))
    assert host.inside(journal.undo_all) == []
    assert host.inside(nft.names) == (kept,)
    host.inside(lambda: nft.remove(kept))
    host.inside(lambda: nft.remove(kept))  # it is gone by now
    assert listed(host) == ""


def test_one_that_is_to_stay_from_now_on_is_not_undone(
    host: Host, tables: Tables, journal: Journal
) -> None:
    host.inside(lambda: tables.have(table(53)))
    host.inside(lambda: tables.have(table(53, stays=True)))
    assert host.inside(journal.undo_all) == []
    assert host.inside(nft.names) == (NAME,)


def test_one_that_was_left_is_taken_over(host: Host, journal: Journal) -> None:
    host.inside(lambda: Tables(journal).have(table(53, stays=True)))
    host.inside(lambda: Tables(journal).have(table(54, stays=True)))
    assert "dport 54" in listed(host)
    assert "dport 53" not in listed(host)


def test_a_removed_one_is_nothing_to_undo(host: Host, tables: Tables, journal: Journal) -> None:
    host.inside(lambda: tables.have(table(53)))
    host.inside(lambda: tables.remove(NAME))
    assert tables.names == ()
    host.run("nft", f"add table inet {NAME}")  # of another gateway, by now
    host.inside(journal.undo_all)
    assert NAME in listed(host)


def test_a_table_is_plain_data() -> None:
    json.dumps(nft.transaction(table(53)))
    assert table(53) == table(53)
    assert table(53) != table(54)


def test_each_interface_and_purpose_has_a_table_of_its_own() -> None:
    names = ["fastun0", "a-b", "a_b", "a.b", "a2db", "x*", "a_2db", "-" * 15, "a_forward", "a"]
    made = [table_name(name, purpose) for name in names for purpose in ("", "forward", "kill")]
    assert len(set(made)) == len(made)
    assert all(name.replace("_", "").isalnum() and len(name) < 64 for name in made)


def test_values_are_never_read_as_rules(host: Host, tables: Tables) -> None:
    odd = 'eth0" accept; #'
    rule = (nft.match(nft.meta("iifname"), odd), nft.DROP)
    chain = Chain(name="input", hook="input", rules=(rule,))
    with pytest.raises(NftRefused):  # longer than a name may be
        host.inside(
            lambda: tables.have(
                Table(
                    name=NAME,
                    interface="ft0",
                    chains=(
                        Chain(
                            name="i",
                            hook="input",
                            rules=((nft.match(nft.meta("iifname"), odd * 3), nft.DROP),),
                        ),
                    ),
                )
            )
        )
    host.inside(lambda: tables.have(Table(name=NAME, interface="ft0", chains=(chain,))))
    (item,) = [each for each in host.inside(nft.ruleset) if "rule" in each]
    assert item["rule"]["expr"][0]["match"]["right"] == odd
