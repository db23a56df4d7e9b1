"""The text formats of /metrics, and which of them a scrape gets."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from fastun.metrics.families import FAMILIES
from fastun.metrics.server import Exposition
from tests.support.idle_gateway import (
    fill_ring,
    have,
    idle_gateway,
    link_over,
    peers_named,
    tcp_pair,
    viewing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# What Prometheus 2.42 and 3.5 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    """Of a gateway with two peers, one of them connected, and data in a ring."""
    with idle_gateway() as gateway, viewing(gateway) as viewer, tcp_pair() as (one, _):
        have(gateway, *peers_named("ant", 'b"e\\e'))
        gateway.links.by_slot[1] = link_over(one)
        fill_ring(gateway, "outbound", 0.5)
        yield Exposition(viewer.view)


def answer(exposition: Exposition, accept: str, encoding: str = "") -> tuple[dict[str, str], str]:
    headers, body = exposition.answer(accept, encoding)
    by_name = dict(headers)
    if by_name.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return by_name, body.decode()


@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3])
def test_prometheus_gets_open_metrics(exposition: Exposition, accept: str) -> None:
    headers, text = answer(exposition, accept)
    assert headers["Content-Type"].startswith(OPEN)
    assert text.endswith("\n# EOF\n")
    names = {family.name for family in open_metrics_families(text)}
    assert names >= {family.name.removesuffix("_total") for family in FAMILIES}
    assert "process_cpu_seconds" in names


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,application/xhtml+xml",
        "text/plain;version=0.0.4",
        "application/openmetrics-text;version=x",
        "application/openmetrics-text;version=0.0.1",
    ],
)
def test_others_get_the_plain_format(exposition: Exposition, accept: str) -> None:
    headers, text = answer(exposition, accept)
    assert headers == {"Content-Type": PLAIN}
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names >= {family.name.removesuffix("_total") for family in FAMILIES}


def test_a_folded_header_cannot_add_headers_to_the_answer(exposition: Exposition) -> None:
    headers, _ = answer(exposition, "application/openmetrics-text;\r\n version=2.0.0\r\n X: y")
    assert list(headers) == ["Content-Type"]
    assert headers["Content-Type"].isprintable()


def test_both_formats_have_the_same_samples(exposition: Exposition) -> None:
    plain = text_string_to_metric_families(answer(exposition, "")[1])
    of_open = open_metrics_families(answer(exposition, PROMETHEUS_2)[1])
    samples = [
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            if family.name.startswith("fastun_")
            for sample in family.samples
        }
        for families in (plain, of_open)
    ]
    assert samples[0].keys() == samples[1].keys()
    assert ("fastun_peer_up", ("peer", 'b"e\\e')) in samples[0]
    assert samples[0]["fastun_ring_used_bytes", ("direction", "outbound"), ("lane", "0")] == 2**19


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip;q=1.0", "GZip"])
@pytest.mark.parametrize("accept", ["", PROMETHEUS_2])
def test_whoever_takes_gzip_gets_it(exposition: Exposition, accept: str, encoding: str) -> None:
    headers, text = answer(exposition, accept, encoding)
    assert headers["Content-Encoding"] == "gzip"
    assert "\nfastun_peer_up{" in text


def test_without_being_asked_for_gzip_nothing_is_compressed(exposition: Exposition) -> None:
    assert "Content-Encoding" not in answer(exposition, "", "deflate, br")[0]


def test_promtool_finds_no_fault_in_the_classic_format(exposition: Exposition) -> None:
    """promtool 2.42 reads no OpenMetrics: that is parsed above, and scraped by Prometheus itself
    in tests/netns/test_metrics.py.
    """
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (Debian package prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=answer(exposition, "")[1],
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
