"""The tables of the model in docs/performance.md are made of the result that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.model import __main__ as command
from bench.model import results, tables
from bench.model.compared import Compared, summarise
from bench.tunnel.results import write
from fastun.bench.model.prediction import DEMANDS
from fastun.bench.model.wires import WIRES

PAGE = command.DOCUMENT.read_text(encoding="utf-8")


def named() -> tuple[results.Results, str]:
    link = re.findall(r"\]\((\.\./bench/results/model-[\w-]+\.json)\)", PAGE)
    assert len(link) == 1
    return results.read(command.DOCUMENT.parent / link[0]), link[0]


def test_the_tables_are_those_of_the_stored_result(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(PAGE, encoding="utf-8")
    tables.into_document(*named()[:1], copy, named()[1])
    made = copy.read_text(encoding="utf-8")
    assert made == PAGE, "run: python -m bench.model docs FILE"


def test_many_flows_between_fastun_ends_and_many_peers_use_what_cores_and_nic_allow() -> None:
    """Or the page has to say why not."""
    stored, _ = named()
    rows = iter(tables.other_machines(stored).rows)
    parts = {
        (wire.name, demand): [float(cell.split()[-1].rstrip(")")) for cell in next(rows)[2:]]
        for wire in WIRES
        for demand in DEMANDS
    }
    linear = {
        (wire, demand): 0.9
        for wire in ("secure TCP", "secure UDP")
        for demand in ("many flows", "many peers")
    }
    linear["plain WireGuard", "many peers"] = 0.8  # Its tun-readers seal packets one by one.
    assert {key: min(parts[key]) for key, least in linear.items() if min(parts[key]) < least} == {}


def compared(lanes: int, measured: float, predicted: float) -> Compared:
    return Compared(
        wire="secure TCP",
        lanes=lanes,
        streams=1,
        cores=2.0,
        measured_bits_per_second=measured,
        predicted_bits_per_second=predicted,
        limit="cores",
        busy_cores=1.9,
        predicted_busy_cores=1.8,
        whole_share=1.0,
    )


def test_ratios_are_medians_over_the_rounds_of_each_round_s_ratio() -> None:
    one = summarise([compared(1, 1e9, 2e9), compared(1, 4e9, 4e9), compared(1, 1e9, 1.1e9)])
    assert [(each.ratio, each.ratio_min, each.ratio_max) for each in one] == [
        (pytest.approx(1.1), 1.0, 2.0)
    ]


def test_predictions_that_are_far_off_are_named() -> None:
    near, far = compared(1, 1e9, 1.1e9), compared(2, 1e9, 1.2e9)
    assert tables.verdict(summarise([near])) == "All 1 ratios are within 15 % of 1."
    assert tables.verdict(summarise([near, far])) == (
        "1 of 2 ratios are within 15 % of 1; not: secure TCP, 2 lanes, 1 stream (1.20)."
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "/nonexistent.json"], "/nonexistent.json: No such file"),
        (["show", __file__], "not a result of bench.model"),
        (["docs", "{tmp}/elsewhere.json"], "move it there"),
    ],
)
def test_a_file_that_is_not_a_stored_result_is_refused_in_a_line(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, link = named()
    write(stored, tmp_path / "elsewhere.json")
    assert link
    code = command.main([each.format(tmp=tmp_path) for each in arguments])
    said = capsys.readouterr()
    assert (code != 0, said.out) == (True, "")
    assert complaint in " ".join(said.err.split())
