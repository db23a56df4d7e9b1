"""The table of metric families, and its documentation."""

from __future__ import annotations

import re
from pathlib import Path

from fastun import native
from fastun.link.hello import PLAIN_WIREGUARD
from fastun.metrics.families import FAMILIES
from fastun.metrics.readings import CALLS_OF_ROLE
from fastun.metrics.software import SoftwareLabels
from fastun.metrics.tables import markdown, markdown_of_drops
from fastun.native import ROLES

ROOT = Path(__file__).resolve().parents[3]


def test_family_names_follow_the_conventions_of_prometheus() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert re.fullmatch(r"fastun_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")
        assert family.help.isprintable()
        assert "|" not in family.help


def test_every_family_and_every_drop_reason_is_documented() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    readme = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    missing = [
        row for row in (markdown() + "\n" + markdown_of_drops()).splitlines() if row not in readme
    ]
    assert missing == [], "put in the output of: python -m fastun.metrics"


def test_only_calls_that_a_role_can_make_are_families_of_it() -> None:
    assert tuple(CALLS_OF_ROLE) == ROLES
    for role, calls in CALLS_OF_ROLE.items():
        [path] = (ROOT / "csrc").rglob(f"{role.replace('-', '_')}.c")
        source = path.read_text(encoding="utf-8")
        assert set(calls) <= set(native.CALLS)
        assert set(re.findall(r"CALL_(\w+)", source)) <= set(calls)


def test_the_software_of_a_plain_wireguard_peer_is_known_as_a_label() -> None:
    assert SoftwareLabels().of("ant", PLAIN_WIREGUARD) == PLAIN_WIREGUARD
