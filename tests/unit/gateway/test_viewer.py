"""Views of a gateway: values of one moment, that do not follow the gateway."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from fastun.gateway.view import GatewayView, Health, ReadFile, ViewClosedError
from fastun.gateway.viewer import Viewer
from fastun.status import report
from fastun.status.reading import read_status
from tests.support.idle_gateway import (
    have,
    idle_gateway,
    link_over,
    peers_named,
    set_ready,
    settings_for,
    tcp_pair,
    viewing,
    write_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.gateway.gateway import Gateway


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with idle_gateway() as idle:
        yield idle


def test_a_view_stays_as_it_was_when_the_gateway_goes_on(gateway: Gateway) -> None:
    have(gateway, *peers_named("ant", "bee"))
    with viewing(gateway) as viewer, tcp_pair() as (one, _):
        gateway.links.by_slot[0] = link_over(one)
        before = viewer.view()
        write_field(gateway, 0, "receive_bytes", 7)
        gateway.links.by_slot.clear()
        gateway.counts.refused += 1
        set_ready(gateway)
        have(gateway, *peers_named("bee"))
        after = viewer.view()
    assert [peer.name for peer in before.peers] == ["ant", "bee"]
    assert [peer.name for peer in after.peers] == ["bee"]
    assert before.peers[0].link is not None
    assert before.peers[0].link.tcp is not None
    assert before.peers[0].counted["receive_bytes"] == 0
    assert (before.counts["refused"], after.counts["refused"]) == (0, 1)
    assert [worker.is_ready for _, worker in before.workers()] == 4 * [False]
    assert [worker.is_ready for _, worker in after.workers()] == 4 * [True]
    with pytest.raises(AttributeError, match="immutable"):
        before.device = after.device  # type: ignore[misc]


def test_a_reload_that_failed_is_seen_until_one_succeeds(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the view, for metrics; in the status, with its text; and what runs is as it was."""
    with viewing(gateway) as viewer:
        assert viewer.view().configuration.read == ReadFile(gateway.started)
        viewer.note_reload("gateway.toml: listen: unknown field")
        failed = viewer.view()
        viewer.note_reload("")
        succeeded = viewer.view().configuration.read
    assert failed.configuration.read.since == gateway.started
    assert (succeeded.error, succeeded.since > gateway.started) == ("", True)
    status = read_status(failed)
    assert status.reload_error == "gateway.toml: listen: unknown field"
    report._print([status], shows_all=False)  # noqa: SLF001 (the text of one)
    assert "not reloaded: gateway.toml: listen: unknown field" in "".join(capsys.readouterr())


def test_once_closed_no_view_is_taken_and_close_waits_for_one_that_is(gateway: Gateway) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def has_frames() -> bool:
        begun.set()
        return go_on.wait(5)

    cast("SimpleNamespace", gateway.device).has_frames = has_frames
    viewer = Viewer(gateway)
    views: list[GatewayView] = []
    taking = threading.Thread(target=lambda: views.append(viewer.view()))
    taking.start()
    assert begun.wait(5)
    closing = threading.Thread(target=viewer.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go_on.set()
    taking.join(5)
    closing.join(5)
    assert len(views) == 1
    with pytest.raises(ViewClosedError):
        viewer.view()


def test_health_names_the_workers_that_are_down_and_whether_there_is_a_link() -> None:
    with (
        idle_gateway(settings_for("connect", "tcp://192.0.2.1")) as gateway,
        viewing(gateway) as viewer,
    ):
        set_ready(gateway)
        gateway.lanes.first.workers["tun-writer"].is_ready = False
        assert viewer.health() == Health(("tun-writer/0",), is_linked=False, needs_link=True)
        set_ready(gateway)
        gateway.links.by_slot[0] = link_over(None)
        assert viewer.health() == Health((), is_linked=True, needs_link=True)
