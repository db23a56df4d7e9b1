"""fastun.imports, on the libraries that it is for. Each in a fresh Python: imports happen once."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEFERRED = """
import sys
from fastun import imports
with imports.deferred("pyroute2"):
    from pyroute2.iproute import IPRoute
assert "pyroute2.ndb" not in sys.modules
"""

# Refuses what fastun.host.iproute tries first, as a version of pyroute2 would whose parts use what
# its __init__.py defines.
NEEDS_THE_WHOLE = """
import sys

class Refusal:
    def find_spec(self, name, path, target=None):
        if name == "pyroute2.iproute" and "__version__" not in vars(sys.modules["pyroute2"]):
            raise ImportError(name)

sys.meta_path.insert(0, Refusal())
from fastun.host.netlink.iproute import IPRoute, NetlinkError
assert issubclass(NetlinkError, Exception)
IPRoute().close()
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
        "from pyroute2 import IPRoute as again, NDB; assert again is IPRoute",
        "import pyroute2; assert pyroute2.IPRoute is IPRoute; assert pyroute2.ndb",
        "import pyroute2.netlink.nl80211; assert pyroute2.NL80211",
    ],
)
def test_others_find_a_deferred_package_whole(use: str) -> None:
    run(f"{DEFERRED}\n{use}\nassert 'pyroute2.ndb.main' in sys.modules")


def test_a_package_that_is_loaded_already_stays_as_it_is() -> None:
    run(
        "import pyroute2; from fastun import imports; before = pyroute2\n"
        "with imports.deferred('pyroute2'):\n    import pyroute2\n"
        "assert pyroute2 is before; assert '__getattr__' not in vars(pyroute2)"
    )


def test_a_deferred_package_that_is_missing_is_named() -> None:
    run(
        "from fastun import imports\n"
        "try:\n    with imports.deferred('not_there'):\n        raise SystemExit('not reached')\n"
        "except ModuleNotFoundError as error:\n    assert error.name == 'not_there'"
    )


def test_a_pyroute2_whose_parts_need_the_whole_is_imported_whole() -> None:
    run(NEEDS_THE_WHOLE)


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


def test_a_module_that_was_in_the_place_of_another_is_not_any_more() -> None:
    run(
        "import _socket, sys; from fastun import imports\n"
        "with imports.in_place_of('socket', _socket):\n    import socket as given\n"
        "assert given is _socket; assert 'socket' not in sys.modules\n"
        "import socket; assert socket.socket is not _socket.socket\n"
        "with imports.in_place_of('socket', _socket):\n    import socket as given\n"
        "assert given is _socket; import socket as again; assert again is socket"
    )


def test_what_msgspec_was_imported_without_can_be_imported_later() -> None:
    run(
        "import fastun.command.cli, decimal, platform, msgspec.inspect\n"
        "assert platform.system() == 'Linux'; assert decimal.Decimal('1') == 1\n"
        "assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()"
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
