"""Control messages: each is defined once, and one method acts on it."""

from __future__ import annotations

import pytest

from fastun.gateway.reports import Reports
from fastun.lane import events, worker
from fastun.lane.messages import Boot, Message, Ready, ToGateway, ToWorker, WorkerFailed
from fastun.lane.ways import WaysSet
from fastun.native.loop import EventKind


@pytest.mark.parametrize("kind", ToWorker.__subclasses__())
def test_a_worker_acts_on_every_message_to_it(kind: type[Message]) -> None:
    has_handler = kind in vars(worker.Worker)["act"].dispatcher.registry
    assert has_handler != (kind is Boot), "Boot comes once, before the others"


@pytest.mark.parametrize("kind", ToGateway.__subclasses__())
def test_the_gateway_acts_on_every_report(kind: type[Message]) -> None:
    has_handler = kind in vars(Reports)["handle"].dispatcher.registry
    is_elsewhere = kind in (Ready, WorkerFailed, WaysSet)
    assert has_handler != is_elsewhere, "Ready is the lane's own, those of a worker on_message's"


def test_every_event_of_a_loop_is_reported() -> None:
    assert set(events.MESSAGES) == set(EventKind)


def test_every_message_says_what_it_does() -> None:
    for kind in (*ToWorker.__subclasses__(), *ToGateway.__subclasses__()):
        assert kind.__doc__, kind  # its own, where inspect.getdoc takes that of its base
