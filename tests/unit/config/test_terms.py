"""Terms of a `[[peer]]`: those of `fastun peer`, by the same names, in the same forms."""

from __future__ import annotations

import calendar
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from fastun.command.peer_fields import Given, changed
from fastun.config import terms
from fastun.config.settings import Options, Role, load
from fastun.peers.peer import Peer
from fastun.peers.terms import TO_MAX, USUAL, Quota, RateLimit, Terms
from tests.support.configuration import LINES, PUBLIC, UDP, complaint, file, peer_table

PEER = Peer(name="branch", public_key=bytes(32))
MBIT = 125_000
NEXT_YEAR = f"{time.gmtime().tm_year + 1}-01-31"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def loaded(directory: Path, **lines: str) -> Terms:
    path = file(directory, peer_table(LINES, **lines))
    (peer,) = load("serve", None, Options(config=path)).peers
    return peer.terms


def refused(directory: Path, role: Role = "serve", options: Any = None, **lines: str) -> str:
    """Return what is said of the first field, after the file's name."""
    path = file(directory, peer_table({**LINES, **(UDP if role == "connect" else {})}, **lines))
    return complaint(role, None, options or Options(config=path)).removeprefix(f"{path}: peer.")


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ({"limit": "'10Mbit'"}, Given(limit="10Mbit")),
        ({"limit": "'none'"}, Given(limit="none")),
        (
            {"limit": "{ inbound = '2Mbit', outbound = '2.5MB', burst = '100kB' }"},
            Given(inbound="2Mbit", outbound="2.5MB", burst="100kB"),
        ),
        ({"limit.inbound": "'2Mbit'"}, Given(inbound="2Mbit")),
        ({"quota": "'50GB'"}, Given(quota="50GB")),
        ({"quota": "{ size = '50GB', then = '1Mbit' }"}, Given(quota="50GB", quota_then="1Mbit")),
        ({"to": "['172.16.9.0/24', '10.9.0.1']"}, Given(to=("172.16.9.0/24", "10.9.0.1"))),
        ({"to": "['all']"}, Given(to=("all",))),
        ({"expires": f"'{NEXT_YEAR}'"}, Given(expires=NEXT_YEAR)),
        ({"expires": "'never'"}, Given(expires="never")),
        ({"note": '"Ada\'s"'}, Given(note="Ada's")),
    ],
)
def test_a_term_in_the_file_is_what_the_command_makes_of_it(
    tmp_path: Path, lines: dict[str, str], given: Given
) -> None:
    assert loaded(tmp_path, **lines) == changed(PEER, given, None, time.time()).terms


def test_all_of_them_together(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        limit="{ inbound = '2Mbit', burst = '100kB' }",
        quota="{ size = '50GB', then = '1Mbit' }",
        to="['172.16.9.0/24']",
        expires="2027-01-31",
        note="'until spring'",
    )
    assert found == Terms(
        limit=RateLimit(inbound=2 * MBIT, burst_bytes=100_000),
        quota=Quota(month_bytes=50 * 10**9, then_rate=MBIT),
        to=(ip_network("172.16.9.0/24"),),
        expires=calendar.timegm((2027, 2, 1, 0, 0, 0)),
        note="until spring",
    )


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-01-31", (2027, 2, 1, 0, 0, 0)),
        ("'2027-01-31'", (2027, 2, 1, 0, 0, 0)),
        ("2027-01-31T18:00:00", (2027, 1, 31, 18, 0, 0)),
        ("2027-01-31T18:00:00+02:00", (2027, 1, 31, 16, 0, 0)),
        ("'2027-01-31T18:00'", (2027, 1, 31, 18, 0, 0)),
    ],
)
def test_an_end_is_a_date_of_toml_or_in_quotes(
    tmp_path: Path, written: str, moment: tuple[int, ...]
) -> None:
    assert loaded(tmp_path, expires=written).expires == calendar.timegm(moment)


def test_an_end_that_has_passed_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    found = loaded(tmp_path, expires="2001-01-31")
    assert found.barred(time.time()) == "expired"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"limit": "'fast'"}, "limit: 'fast' is not a rate"),
        ({"limit": "10"}, "limit: must be a string in quotes, or a section; it is an integer"),
        ({"limit": "{ outbound = '1bit' }"}, "limit.outbound: 1bit is out of range"),
        ({"limit": "{ burst = '9kB' }"}, "limit.burst: the peer has no limit; give a rate too"),
        ({"limit": "{ inbound = '1Mbit', burst = '1B' }"}, "limit.burst: 1B is out of range"),
        ({"quota": "'much'"}, "quota: 'much' is not a size"),
        ({"quota": "{ then = '1Mbit' }"}, "quota.then: the peer has no quota"),
        ({"quota": "{ size = '1GB', then = '1' }"}, "quota.then: '1' is not a rate"),
        ({"expires": "'30d'"}, "expires: '30d' is not a date; write it as in 2027-01-31"),
        ({"expires": "07:00:00"}, "expires: must be a string in quotes"),
        ({"expires": "3000-01-31"}, "expires: 3000-01-31 is over 100 years away"),
        ({"to": "['10.9.0.1/24']"}, "to: 10.9.0.1/24 has bits set beyond its prefix length"),
        (
            {"to": str([f"10.9.{n}.0/24" for n in range(TO_MAX + 1)])},
            f"to: {TO_MAX + 1} networks; at most {TO_MAX}",
        ),
        ({"note": '"a\\nb"'}, "note: 'a\\nb' must be a line"),
        ({"note": f"'{'x' * 201}'"}, "note: "),
    ],
)
def test_a_bad_term_is_one_line_that_names_it(
    tmp_path: Path, lines: dict[str, str], said: str
) -> None:
    assert said in refused(tmp_path, **lines)


def test_an_unknown_field_of_a_table_names_the_nearest(tmp_path: Path) -> None:
    said = refused(tmp_path, limit="{ outbond = '1Mbit' }")
    assert said.endswith("limit.outbond': unknown field; did you mean outbound?")


def test_destinations_of_frames_are_not_restricted(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\nmode = 'tap'\n" + peer_table(LINES, to="['10.9.0.1']"))
    assert "in tap mode" in complaint("serve", None, Options(config=path))


@pytest.mark.parametrize(("name", "value"), [("quota", "'1GB'"), ("expires", "2027-01-31")])
def test_a_client_has_no_use_for_what_a_server_counts(
    tmp_path: Path, name: str, value: str
) -> None:
    said = refused(tmp_path, "connect", **{name: value})
    assert said == f"{name}: '{name}' applies only to serve; remove it"


@pytest.mark.parametrize("name", ["limit", "quota", "to", "expires", "note", "public_key"])
def test_an_unencrypted_peer_has_no_terms(tmp_path: Path, name: str) -> None:
    value = "['10.9.0.1']" if name == "to" else f"'{PUBLIC}'"
    path = file(tmp_path, f"[[peer]]\n{name} = {value}\n")
    plain = Options(config=path, wire="plain", insecure=True)
    assert f"peer.{name}: has no effect on the plain wire" in complaint("serve", None, plain)


def test_changes_are_said_in_the_words_of_the_list() -> None:
    limit, usual = Terms(limit=RateLimit(inbound=MBIT, outbound=MBIT), note="x"), USUAL
    assert terms.said_changes(usual, limit) == ["limit 1 Mbit/s", "note: x"]
    assert terms.said_changes(limit, usual) == ["no limit", "no note"]
    assert terms.said_changes(limit, limit) == []
