"""fastun.imports, on the libraries that it is for. Each in a fresh Python: imports happen once."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEFERRED = """
import sys
from fastun import imports
with imports.deferred("prometheus_client"):
    from prometheus_client.registry import CollectorRegistry
assert "prometheus_client.exposition" not in sys.modules
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "use",
    [
        "from prometheus_client import CollectorRegistry as it; assert it is CollectorRegistry",
        "import prometheus_client as whole; assert whole.CollectorRegistry is CollectorRegistry",
        "import prometheus_client.bridge.graphite; assert prometheus_client.start_http_server",
    ],
)
def test_others_find_a_deferred_package_whole(use: str) -> None:
    run(f"{DEFERRED}\n{use}\nassert 'prometheus_client.exposition' in sys.modules")


def test_a_package_that_is_loaded_already_stays_as_it_is() -> None:
    run(
        "import prometheus_client; from fastun import imports; before = prometheus_client\n"
        "with imports.deferred('prometheus_client'):\n    import prometheus_client\n"
        "assert prometheus_client is before\n"
        "assert '__getattr__' not in vars(prometheus_client)"
    )


def test_a_deferred_package_that_is_missing_is_named() -> None:
    run(
        "from fastun import imports\n"
        "try:\n    with imports.deferred('not_there'):\n        raise SystemExit('not reached')\n"
        "except ModuleNotFoundError as error:\n    assert error.name == 'not_there'"
    )


def test_a_module_that_was_replaced_meanwhile_is_the_real_one_after_that() -> None:
    run(
        "import sys; from fastun import imports\n"
        "with imports.standing_in('ssl', 'json'):\n"
        "    from ssl import SSLContext\n"
        "    from json import loads\n"
        "assert type(SSLContext(1)) is SSLContext; assert not hasattr(SSLContext, 'sni_callback')\n"
        "assert 'ssl' not in sys.modules\n"
        "import json, ssl; assert json.loads('1') == 1; assert ssl.SSLContext is not SSLContext"
    )


def test_a_part_of_a_library_that_another_stood_in_for_can_be_imported() -> None:
    run(
        "from fastun import log; import structlog\n"
        "assert 'stdlib' not in vars(structlog)\n"
        "import structlog.stdlib; assert structlog.stdlib.BoundLogger.new"
    )


def test_a_loaded_module_stays_when_others_are_replaced() -> None:
    run(
        "import json, sys; from fastun import imports\n"
        "with imports.standing_in('json'):\n    assert sys.modules['json'] is json\n"
        "assert sys.modules['json'] is json"
    )


def test_the_log_hides_rich_from_structlog_only() -> None:
    run("import sys; from fastun import log\nassert 'rich' not in sys.modules; import rich.console")


def test_rich_that_is_loaded_already_is_not_hidden() -> None:
    run("import sys, rich; from fastun import log; assert sys.modules['rich'] is rich")


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_looks_at_nothing_that_was_imported_to_stay_and_goes_on(fails: bool) -> None:
    program = f"""
import gc
from fastun import imports
try:
    with imports.kept():
        assert not gc.isenabled()
        import fastun.gateway.gateway
        if {fails}:
            raise ImportError
except ImportError:
    pass
assert gc.isenabled()
assert gc.get_freeze_count() > 50_000, gc.get_freeze_count()
assert len(gc.get_objects()) < 1_000, len(gc.get_objects())
"""
    run(program)
